"""What optimizers share whose weights follow dual variables: λ, its changes, and landing.

The dual of a weight is `v ∈ ∂J(w)` of `J(w) = λ·R(w) + ‖w‖²/(2δ)`, and the weight `w = prox(δ·v)`:
it becomes nonzero only once its dual has grown past λ.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from itertools import groupby
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from sparsify.errors import NotFiniteError
from sparsify.optim.duals import Duals, choose_zeros, quantile
from sparsify.optim.lambda_rules import LambdaRule, QuantileLambda
from sparsify.optim.sharding import Shards, local, local_like, local_part, reduced_like
from sparsify.optim.sparse_optimizer import Groups, SparseOptimizer
from sparsify.optim.state import precise

_ALIVE = 2.0**-23  # float32's rounding of 1; half precision has it, too

LambdaChange = Literal["keep_dual", "keep_weights", "rescale"]
"""What stays when λ moves.

`keep_dual` is the plain iteration: every surviving weight shrinks or grows by `δ·Δλ`.
`keep_weights` corrects the dual instead, `v ← v + Δλ·∂R(w)` on the support and `v` brought back
into `λ·∂R(0)` elsewhere. `rescale` divides by λ, `w = prox(δ·v)/λ`. The last two are the variants
that arXiv 2605.07892 examines.
"""


class DualOptimizer(SparseOptimizer):
    """An optimizer whose regularised weights follow their duals until it lands.

    After `land` the mask is held: the surviving weights go on training as if they were alone
    (λ = 0 on the support), and the sparsity no longer changes.
    """

    _CONTROL: ClassVar[tuple[str, ...]] = (*SparseOptimizer._CONTROL, "_landed", "_lambda_change")

    def __init__(
        self,
        params: Groups,
        defaults: dict[str, Any],
        lambda_rule: LambdaRule | None,
        lambda_change: LambdaChange,
    ) -> None:
        if lambda_change not in get_args(LambdaChange):
            choices = ", ".join(get_args(LambdaChange))
            raise ValueError(f"lambda_change must be one of {choices}: {lambda_change!r}")
        self._lambda_change = lambda_change
        self._landed = False
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
    def land(self, sparsity: float, *, keep_layers: bool = False) -> None:
        """Fixes the support at exactly `sparsity` and holds it from now on.

        λ becomes the quantile that gives this sparsity (with `rescale` it stays, since weights are
        divided by it); among equal thresholds the later goes. Groups stay whole, so that a group
        regularizer may exceed the sparsity by less than one group. A weight that is meant to
        survive and is zero, as its dual is, becomes too small to change any output: it counts.

        Args:
            sparsity: The share of zeros.
            keep_layers: Whether every parameter keeps its largest group where there is room for
                that; its weights, if they are zero, become so small.

        Raises:
            ValueError: `sparsity` lies outside [0, 1].
            NotFiniteError: A weight is NaN or infinite, as it is after such a gradient.
        """
        if not 0 <= sparsity <= 1:
            raise ValueError(f"sparsity must lie in [0, 1]: {sparsity}")
        self._prepare_all()
        self._check_finite()
        if super()._steers():  # also when it lands again
            lam, keeps = choose_zeros(self._duals(), sparsity, keep_layers=keep_layers)
            for (group, parameter), keep in zip(self._regularised(), keeps, strict=True):
                self._hold(group, parameter, keep, lam.to(self._lam))
            if self._lambda_change != "rescale":
                self._lam = lam.to(self._lam)
        self._landed = True
        self.measure_sparsity()

    @torch.no_grad()
    def hold(self) -> None:
        """Holds the zeros that the weights have now, as `land` does, and moves none of them."""
        self._landed = True
        self._prepare_all()
        if self._lambda_change != "rescale":
            self._lam = torch.zeros_like(self._lam)
        self.measure_sparsity()

    @torch.no_grad()
    def land_on(self, masks: Mapping[Tensor, Tensor]) -> None:
        """Fixes the support at masks that somebody else has chosen, see `land`; λ stays.

        Args:
            masks: Of all regularised weights, which of their elements stay.

        Raises:
            NotFiniteError: As in `land`.
        """
        self._prepare_all()
        self._check_finite()
        for group, parameter in self._regularised():
            self._hold(group, parameter, local(masks[parameter]), self._lam)
        self._landed = True
        self.measure_sparsity()

    @torch.no_grad()
    def dual(self, parameter: Tensor) -> Tensor:
        """The dual of a regularised weight now."""
        group = next(group for group, each in self._regularised() if each is parameter)
        return self._dual(group, parameter)

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
        for parameter, state in self.state.items():
            # `set_optimizer_state_dict` adds what the optimizer had and the saved state has not.
            if not self._landed:
                state.pop("mask", None)
            elif "mask" in state and "dual" in state and state["dual"].dtype == parameter.dtype:
                del state["dual"]
        held = ["mask" in self.state.get(p, {}) for _, p in self._regularised()]
        if self._landed and held and not any(held):
            raise ValueError(
                "the state is that of an optimizer that has landed, but its masks did not arrive:"
                " call land(0) before loading it"
            )

    @abstractmethod
    def _compiles(self, tensor: Tensor) -> bool:
        """Whether C code computes with this tensor."""

    def _check_finite(self) -> None:
        """Refuses to choose zeros among numbers that are none: every order of them is wrong."""
        weights = [parameter for _, parameter in self._regularised()]
        wrong = torch.zeros((), dtype=torch.int64, device=self._device())
        for weight in weights:
            wrong += (~local(self.state[weight].get("dual", weight)).isfinite()).sum()
        if count := int(Shards(weights).sum(wrong)):
            raise NotFiniteError(
                f"{count} of the weights to choose zeros among are NaN or infinite: a gradient was"
            )

    def _begin(self) -> None:
        before = self._lam
        super()._begin()
        if self._lam is not before:
            self._keep_weights(before)

    def _steers(self) -> bool:
        return not self._landed and super()._steers()

    def _prepare_all(self) -> None:
        """Makes the whole state: a distributed checkpoint is read into what exists."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    self._prepare(group, parameter)

    def _prepare(self, group: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
        state = super()._prepare(group, parameter)
        if group["regularizer"] is not None and "mask" not in state:
            if self._landed:  # its zeros are held, or it was frozen at the landing
                state["mask"] = local_like(parameter, local(parameter) != 0)
                self._follow_weight(group, parameter)
            else:
                self._dual(group, parameter)
        return state

    def _hold(self, group: dict[str, Any], parameter: Tensor, keep: Tensor, lam: Tensor) -> None:
        """Gives a parameter its final support, the groups of `keep`, and its weights at λ."""
        state, weight = self.state[parameter], local(parameter)
        dual = state["dual"]
        mask = torch.empty_like(weight, dtype=torch.bool).copy_(keep)
        prox = group["regularizer"].prox(dual, _limit(lam, group, dual))
        values = local_part(parameter, prox).masked_fill(~mask, 0.0)
        weight.copy_(values * self._gain(group))
        revive(weight, mask)
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
            outside = regularizer.prox(dual, self._limit(group, dual))
            part.copy_(torch.where(on, moved, part - local_part(parameter, outside)))

    def _dual(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "dual" not in state:
            start = precise(parameter.detach())
            subgradient = local_part(parameter, group["regularizer"].subgradient(start))
            limit = self._limit(group, start)
            dual = local(start) / self._gain(group) + limit * subgradient
            state["dual"] = local_like(parameter, dual)
        return state["dual"]

    def _gain(self, group: dict[str, Any]) -> float:
        """What the prox is multiplied by: δ, as `prox(δ·v) = δ·S_λ(v)`."""
        if self._lambda_change == "rescale" and group["regularizer"] is not None:
            return group["delta"] / float(self._lam)
        return group["delta"]

    def _limit(self, group: dict[str, Any], dual: Tensor) -> Tensor:
        return _limit(self._lam, group, dual)

    def _duals(self) -> list[Duals]:
        """The duals of all regularised weights, in their order."""
        found = []
        for group in self.param_groups:
            own = [parameter for by, parameter in self._regularised() if by is group]
            for _, equal in groupby(own, self._same_cost):
                parameters = list(equal)
                tensors = [self._dual(group, parameter) for parameter in parameters]
                compiles = all(self._compiles(local(dual)) for dual in tensors)
                scale, cost = group["lambda_scale"], self._cost(parameters[0])
                found.append(Duals(tensors, group["regularizer"], scale, compiles, cost))
        return found

    def _same_cost(self, parameter: Tensor) -> tuple[int, int]:
        """Equal for parameters whose weights all cost the same."""
        cost = self._cost(parameter)
        return (cost, 0) if isinstance(cost, int) else (0, id(parameter))

    def _control_state(self) -> dict[str, Any]:
        return super()._control_state() | {"landed": self._landed}

    def _load_control(self, control: dict[str, Any]) -> None:
        super()._load_control(control)
        self._landed = control["landed"]

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if not 0 < group["delta"] < math.inf:
            raise ValueError(f"delta must be positive and finite: {group['delta']}")


def _limit(lam: Tensor, group: dict[str, Any], dual: Tensor) -> Tensor:
    """λ of a group for a dual, rounded down, so that exactly the thresholds up to λ are reached."""
    limit = lam.to(dual.device) * group["lambda_scale"]
    rounded = limit.to(dual.dtype)
    return torch.where(
        rounded.to(limit) > limit, rounded.nextafter(torch.zeros_like(rounded)), rounded
    )


def revive(weight: Tensor, mask: Tensor) -> None:
    """Makes weights of the support that are zero too small to change any output, but not zero."""
    weight.masked_fill_(mask & (weight == 0), _ALIVE)
