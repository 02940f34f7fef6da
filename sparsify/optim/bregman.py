"""Linearised Bregman iterations (Bungert et al., JMLR 23(192), 2022): what all of them share.

The state is a dual variable `v ∈ ∂J(w)` of `J(w) = λ·R(w) + ‖w‖²/(2δ)`. A step moves `v` along the
negative gradient and recovers the weights as `w = prox(δ·v)`, so that weights become nonzero only
once their dual has grown past λ.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from sparsify.optim import foreach
from sparsify.optim import fused as compiled
from sparsify.optim.duals import Duals, choose_zeros, quantile
from sparsify.optim.lambda_rules import LambdaRule, QuantileLambda
from sparsify.optim.plans import Plan
from sparsify.optim.regularizers import L1
from sparsify.optim.saved_state import restore
from sparsify.optim.sharding import local, local_like, local_part, reduced_like
from sparsify.optim.slots import Slot
from sparsify.optim.sparse_optimizer import Groups, SparseOptimizer

_ALIVE = 2.0**-23  # float32's rounding of 1; half precision has it, too

LambdaChange = Literal["keep_dual", "keep_weights", "rescale"]
"""What stays when λ moves.

`keep_dual` is the plain iteration: every surviving weight shrinks or grows by `δ·Δλ`.
`keep_weights` corrects the dual instead, `v ← v + Δλ·∂R(w)` on the support and `v` brought back
into `λ·∂R(0)` elsewhere. `rescale` divides by λ, `w = prox(δ·v)/λ`. The last two are the variants
that arXiv 2605.07892 examines.
"""


class BregmanOptimizer(SparseOptimizer):
    """The step that LinBreg and AdaBreg share; they differ in how a gradient becomes an update.

    In a step the duals move, λ is set (quantile rule), the prox gives the weights, the sparsity is
    measured, and λ is set for the next step (adaptive rule).

    After `land` the mask is held: the surviving weights go on training as if they were alone
    (λ = 0 on the support), and the sparsity no longer changes.

    The arithmetic exists three times: readable, one tensor at a time (`_update`); for all tensors
    of a group at once (`_updates`, `foreach`); and in C, in one pass over memory (`fused`).
    """

    _CONTROL: ClassVar[tuple[str, ...]] = (
        *SparseOptimizer._CONTROL,
        "_landed",
        "_foreach",
        "_fused",
        "_lambda_change",
    )

    def __init__(
        self,
        params: Groups,
        defaults: dict[str, Any],
        lambda_rule: LambdaRule | None,
        lambda_change: LambdaChange,
        foreach: bool | None,
        fused: bool | None,
    ) -> None:
        if foreach and fused:
            raise ValueError("foreach and fused exclude each other: set one of them")
        if lambda_change not in get_args(LambdaChange):
            choices = ", ".join(get_args(LambdaChange))
            raise ValueError(f"lambda_change must be one of {choices}: {lambda_change!r}")
        self._foreach, self._fused, self._lambda_change = foreach, fused, lambda_change
        self._landed = False
        self._plans: dict[Any, Plan] = {}
        super().__init__(params, defaults, lambda_rule)
        if lambda_change != "keep_dual" and isinstance(self.lambda_rule, QuantileLambda):
            raise ValueError(
                f"lambda_change='{lambda_change}' needs AdaptiveLambda or FixedLambda: the quantile"
                " rule counts on weights that follow λ"
            )
        if lambda_change == "rescale" and not self.lambda_rule.initial > 0:
            raise ValueError(
                "lambda_change='rescale' divides by λ: give the rule a positive initial λ"
            )

    @property
    def landed(self) -> bool:
        """Whether the mask is held."""
        return self._landed

    @torch.no_grad()
    def land(self, sparsity: float) -> None:
        """Fixes the support at exactly `sparsity` and holds it from now on.

        λ becomes the quantile that gives this sparsity (with `rescale` it stays, since weights are
        divided by it); among equal thresholds the later goes. Groups stay whole, so that a group
        regularizer may exceed the sparsity by less than one group. A weight that is meant to
        survive and is zero, as its dual is, becomes too small to change any output: it counts.

        Raises:
            ValueError: `sparsity` lies outside [0, 1].
        """
        if not 0 <= sparsity <= 1:
            raise ValueError(f"sparsity must lie in [0, 1]: {sparsity}")
        # The whole state exists from now on: a distributed checkpoint is read into what exists.
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    self._prepare(group, parameter)
        if super()._steers():  # also when it lands again
            lam, keeps = choose_zeros(self._duals(), sparsity)
            for (group, parameter), keep in zip(self._regularised(), keeps, strict=True):
                self._hold(group, parameter, keep, lam.to(self._lam))
            if self._lambda_change != "rescale":
                self._lam = lam.to(self._lam)
        self._landed = True
        self.measure_sparsity()

    @torch.no_grad()
    def lambda_for(self, sparsity: float | Tensor, near: Tensor | None = None) -> Tensor:
        """The λ at which the prox of the present duals has a sparsity, 0-dim.

        For ℓ1 the `sparsity`-quantile of `|v|`: at least so many weights vanish, and fewer at any
        smaller λ. It is exact, and costs a few passes over the duals.

        Args:
            sparsity: In [0, 1]; a tensor is 0-dim.
            near: Of all such λ takes that which is nearest to this one, 0-dim, not the smallest.

        Raises:
            RuntimeError: The optimizer has landed.
            ValueError: No weights are regularised.
        """
        if self._landed:
            raise RuntimeError("the optimizer has landed: there are no duals to choose λ from")
        if not self._steers():
            raise ValueError(
                "there are no weights whose sparsity λ could steer: give a group of parameters a"
                " regularizer, as parameter_groups does"
            )
        on_host = self._lam.device.type == "cpu"
        guess = self._lam if on_host and self._lam > 0 else None
        return quantile(self._duals(), sparsity, guess, near)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zeroes the gradients of weights that landing holds at zero; before it, does nothing."""
        for _, parameter in self._regularised():
            mask = self.state.get(parameter, {}).get("mask")
            if mask is not None and parameter.grad is not None:
                local(parameter.grad).masked_fill_(~local(mask), 0.0)

    @torch.no_grad()
    def reset_duals(self) -> None:
        """Starts the duals anew from the present weights, `v = w/δ + λ·∂R(w)`.

        Call it after writing into the weights, which the next step would otherwise undo. After
        landing the support stays: what was written elsewhere is zeroed.
        """
        for group, parameter in self._regularised():
            state = self.state[parameter]
            if "mask" not in state:
                state.pop("dual", None)
                continue
            local(parameter).masked_fill_(~local(state["mask"]), 0.0)
            if "dual" in state:
                local(state["dual"]).copy_(local(parameter)).div_(self._gain(group))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict()`.

        Raises:
            ValueError: The state is not that of such an optimizer with such groups.
        """
        super().load_state_dict(state_dict)
        self._plans.clear()
        # Distributed checkpoints have names in place of indices.
        keys = [key for group in state_dict["param_groups"] for key in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for key, parameter in zip(keys, parameters, strict=True):
            saved = state_dict["state"].get(key)
            if saved:
                restore(self.state[parameter], saved, parameter, landed=self._landed)
        held = ["mask" in self.state.get(p, {}) for _, p in self._regularised()]
        if self._landed and held and not any(held):
            raise ValueError(
                "the state is that of an optimizer that has landed, but its masks did not arrive:"
                " call land(0) before loading it"
            )

    @abstractmethod
    def _moments(self, state: dict[str, Any]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """A parameter's moments, and the number of steps that they have seen."""

    @abstractmethod
    def _update(self, group: dict[str, Any], slot: Slot, gradient: Tensor) -> Tensor:
        """What is subtracted from the dual: the step size times the direction."""

    @abstractmethod
    def _updates(
        self, group: dict[str, Any], slots: Sequence[Slot], gradients: list[Tensor]
    ) -> Sequence[Tensor]:
        """`_update` for all slots at once."""

    @abstractmethod
    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        """The fields of `compiled.Hyper` that say how a gradient becomes an update."""

    def _advance(self) -> None:
        rule, step = self.lambda_rule, self._steps
        steers = self._steers()
        waits = steers and rule.needs_quantile(step)
        plans = []
        for index, group in enumerate(self.param_groups):
            parameters, gradients = self._moving(group)
            if parameters:
                plan = self._plan((index, "moves"), group, parameters)
                self._move(group, plan, gradients, follow=not waits)
                plans.append((group, plan))
            idle = self._idle(group) if len(parameters) < len(group["params"]) else []
            if steers and idle:  # their duals stay, λ does not
                plan = self._plan((index, "idle"), group, idle)
                if not waits:
                    self._follow(group, plan)
                plans.append((group, plan))
        if waits:
            self._lam = rule.before_prox(self._lam, self.lambda_for, step)
            for group, plan in plans:
                self._follow(group, plan)
        if not self._landed and rule.due(step):
            self._sparsity = self._counted([plan for _, plan in plans])
            if steers:
                self._change_lambda(rule.after_prox(self._lam, self._sparsity, step))

    def _begin(self) -> None:
        before = self._lam
        super()._begin()
        if self._lam is not before:
            self._keep_weights(before)

    def _steers(self) -> bool:
        return not self._landed and super()._steers()

    def _counted(self, plans: Sequence[Plan]) -> Tensor:
        """`measure_sparsity`, without a pass over the weights where this step has counted them."""
        regularised = [plan for plan in plans if plan.slots[0].dual is not None]
        counts = [plan.table.nonzero for plan in regularised if plan.table and not plan.sharded]
        known = [count for count in counts if count is not None]
        size = sum(slot.weight.numel() for plan in regularised for slot in plan.slots)
        if len(known) != len(regularised) or not size:
            return self.measure_sparsity()
        return torch.tensor(1 - sum(known) / size, dtype=torch.float64)

    def _prepare(self, group: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
        state = super()._prepare(group, parameter)
        if group["regularizer"] is not None and "mask" not in state:
            if self._landed:  # it was frozen at the landing
                state["mask"] = local_like(parameter, local(parameter) != 0)
                self._follow_weight(group, parameter)
            else:
                self._dual(group, parameter)
        return state

    def _plan(self, key: Any, group: dict[str, Any], parameters: Sequence[Tensor]) -> Plan:
        """What a step of some parameters of a group works on, from the last step if it is that."""
        known = self._plans.get(key)
        states = [self.state.get(parameter) for parameter in parameters]
        traced = torch.compiler.is_compiling()
        settings = (group["regularizer"], bool(group.get("momentum")), self._landed, traced)
        if known is None or not known.holds_for(parameters, states, settings):
            slots = [self._slot(group, parameter) for parameter in parameters]
            compiles = all(self._compiles(slot.weight) for slot in slots)
            table = compiled.table_for(slots) if compiles else None
            known = self._plans[key] = Plan(slots, table, settings)
        return known

    def _slot(self, group: dict[str, Any], parameter: Tensor) -> Slot:
        state = self._prepare(group, parameter)
        follows = group["regularizer"] is not None  # it may have lost what it had
        dual, mask = (state.get(name) if follows else None for name in ("dual", "mask"))
        tensors = (dual, mask, *self._moments(state))
        parts = (None if tensor is None else local(tensor) for tensor in tensors)
        return Slot(parameter, state, local(parameter), *parts)

    def _move(
        self, group: dict[str, Any], plan: Plan, gradients: list[Tensor], follow: bool
    ) -> None:
        """Moves duals, or weights without one, along the gradients; then weights after duals."""
        gain, slots = self._gain(group), plan.slots
        if plan.sharded:
            gradients = [local(gradient) for gradient in gradients]
        if plan.table is not None:
            both = follow and not self._landed and isinstance(group["regularizer"], L1)
            limit = float(self._lam) * group["lambda_scale"] if both else None
            hyper = compiled.Hyper(**self._hyper(group), delta=gain, limit=limit)
            plan.table.step(gradients, hyper)
            follow = follow and not both
        else:
            for slot in slots:
                if slot.steps is not None:
                    slot.steps.add_(1)
            if self._at_once(slots):
                foreach.move(slots, self._updates(group, slots, gradients), gain)
            else:
                for slot, gradient in zip(slots, gradients, strict=True):
                    slot.move(self._update(group, slot, gradient), gain)
        if follow:
            self._follow(group, plan)

    def _follow(self, group: dict[str, Any], plan: Plan) -> None:
        """The weights from their duals; weights without one have moved already."""
        regularizer, gain = group["regularizer"], self._gain(group)
        if isinstance(regularizer, L1) and not self._landed:
            duals = [slot.dual for slot in plan.slots if slot.dual is not None]
            if plan.table is not None:
                plan.table.prox(gain, float(self._lam) * group["lambda_scale"])
                return
            if self._at_once(plan.slots) and len({dual.dtype for dual in duals}) == 1:
                shrunk = foreach.soft_threshold(duals, self._limit(group, duals[0].dtype))
                torch._foreach_mul_(shrunk, gain)
                torch._foreach_copy_([slot.weight for slot in plan.slots], shrunk)
                return
        for slot in plan.slots:
            if slot.dual is None:
                continue
            if slot.mask is not None:
                slot.weight.copy_(slot.dual * gain)
                _revive(slot.weight, slot.mask)
            elif isinstance(regularizer, L1):
                limit = self._limit(group, slot.dual.dtype)
                slot.weight.copy_(regularizer.prox(slot.dual, limit) * gain)
            else:  # norms of groups may reach over the parts that other processes hold
                limit = self._limit(group, slot.dual.dtype)
                values = local_part(slot.parameter, regularizer.prox(slot.state["dual"], limit))
                slot.weight.copy_(values * gain)

    def _hold(self, group: dict[str, Any], parameter: Tensor, keep: Tensor, lam: Tensor) -> None:
        """Gives a parameter its final support, the groups of `keep`, and its weights at λ."""
        state, weight = self.state[parameter], local(parameter)
        dual = state["dual"]
        mask = torch.empty_like(weight, dtype=torch.bool).copy_(keep)
        prox = group["regularizer"].prox(dual, _limit(lam, group, dual.dtype))
        values = local_part(parameter, prox).masked_fill(~mask, 0.0)
        weight.copy_(values * self._gain(group))
        _revive(weight, mask)
        state["mask"] = local_like(parameter, mask)
        self._follow_weight(group, parameter)
        if "dual" in state:  # more precise than the weights
            local(dual).copy_(values)

    def _follow_weight(self, group: dict[str, Any], parameter: Tensor) -> None:
        """Makes the dual of a parameter whose mask is held a copy of its weights, if one is needed.

        That is where the weights are too coarse for small updates.
        """
        state = self.state[parameter]
        if "dual" not in state:
            return
        if state["dual"].dtype == parameter.dtype:
            del state["dual"]
        else:
            local(state["dual"]).copy_(local(parameter)).div_(self._gain(group))

    def _check_lambda(self, value: float) -> None:
        super()._check_lambda(value)
        if self._lambda_change == "rescale" and not value:
            raise ValueError("λ must be positive where lambda_change='rescale' divides by it")

    def _change_lambda(self, lam: Tensor) -> None:
        before, self._lam = self._lam, lam
        if self._lambda_change == "keep_weights" and not self._landed:
            self._keep_weights(before)

    def _keep_weights(self, before: Tensor) -> None:
        """Corrects the duals that there are, so that no weight changes with λ."""
        for group, parameter in self._regularised():
            dual, regularizer = self.state.get(parameter, {}).get("dual"), group["regularizer"]
            if dual is None:
                continue
            weight, part = parameter.detach().to(dual.dtype), local(dual)
            on = local(reduced_like(weight, regularizer.thresholds(weight))) > 0
            change = (self._lam - before) * group["lambda_scale"]
            moved = part + change * local_part(parameter, regularizer.subgradient(weight))
            outside = regularizer.prox(dual, self._limit(group, dual.dtype))
            part.copy_(torch.where(on, moved, part - local_part(parameter, outside)))

    def _dual(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "dual" not in state:
            start = parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))
            subgradient = local_part(parameter, group["regularizer"].subgradient(start))
            limit = self._limit(group, start.dtype)
            dual = local(start) / self._gain(group) + limit * subgradient
            state["dual"] = local_like(parameter, dual)
        return state["dual"]

    def _gain(self, group: dict[str, Any]) -> float:
        """What the prox is multiplied by: δ, as `prox(δ·v) = δ·S_λ(v)`."""
        if self._lambda_change == "rescale" and group["regularizer"] is not None:
            return group["delta"] / float(self._lam)
        return group["delta"]

    def _limit(self, group: dict[str, Any], dtype: torch.dtype) -> Tensor:
        return _limit(self._lam, group, dtype)

    def _duals(self) -> list[Duals]:
        """The duals of all regularised weights, in their order."""
        found = []
        for group in self.param_groups:
            own = [parameter for by, parameter in self._regularised() if by is group]
            if own:
                tensors = [self._dual(group, parameter) for parameter in own]
                compiles = all(self._compiles(local(dual)) for dual in tensors)
                found.append(Duals(tensors, group["regularizer"], group["lambda_scale"], compiles))
        return found

    def _count_nonzero(self, weights: Sequence[Tensor]) -> Tensor:
        if weights and all(w.dtype == weights[0].dtype and self._compiles(w) for w in weights):
            return torch.tensor(compiled.count_nonzero(weights))
        return super()._count_nonzero(weights)

    def _at_once(self, slots: Sequence[Slot]) -> bool:
        """Whether all tensors of a group are computed together."""
        return self._foreach or (self._foreach is None and slots[0].weight.is_cuda)

    def _compiles(self, tensor: Tensor) -> bool:
        """Whether the C code computes this tensor's step."""
        # torch.compile can trace neither addresses nor a call of C.
        if self._fused is False or self._foreach or torch.compiler.is_compiling():
            return False
        if compiled.fits(tensor):
            return True
        if self._fused:
            raise RuntimeError(
                "fused=True needs contiguous float32 or float64 weights on the CPU and a C compiler"
            )
        return False

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_plans": {}}  # addresses mean nothing to a copy

    def _control_state(self) -> dict[str, Any]:
        return super()._control_state() | {"landed": self._landed}

    def _load_control(self, control: dict[str, Any]) -> None:
        super()._load_control(control)
        self._landed = control["landed"]

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if not group["delta"] > 0:
            raise ValueError(f"delta must be positive: {group['delta']}")


def _limit(lam: Tensor, group: dict[str, Any], dtype: torch.dtype) -> Tensor:
    """λ of a group, rounded down, so that exactly the thresholds up to λ are reached."""
    limit = lam * group["lambda_scale"]
    rounded = limit.to(dtype)
    return torch.where(
        rounded.to(limit) > limit, rounded.nextafter(torch.zeros_like(rounded)), rounded
    )


def _revive(weight: Tensor, mask: Tensor) -> None:
    """Makes weights of the support that are zero too small to change any output, but not zero."""
    weight.masked_fill_(mask & (weight == 0), _ALIVE)
