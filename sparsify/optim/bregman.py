"""Linearised Bregman iterations (Bungert et al., JMLR 23(192), 2022): the step that they share.

A step moves the dual variables `v` along the negative gradient and recovers the weights as
`w = prox(δ·v)`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparsify.optim import compiled
from sparsify.optim.dual_optimizer import DualOptimizer, LambdaChange, revive
from sparsify.optim.lambda_rules import LambdaRule
from sparsify.optim.regularizers import L1, Tensors, soft_threshold
from sparsify.optim.sharding import local, local_part
from sparsify.optim.sparse_optimizer import Groups
from sparsify.optim.state import Slot, precise
from sparsify.optim.step_plans import SlotBatch, StepPlan

_NOT_IN_C = {"regularizer", "lambda_scale"}  # it gets the limit that comes of them

Moments = tuple[Tensor | None, Tensor | None, Tensor | None]


class BregmanOptimizer(DualOptimizer):
    """The step that LinBreg and AdaBreg share; they differ in how a gradient becomes an update.

    In a step the duals move, λ is set (quantile rule), the prox gives the weights, the sparsity is
    measured, and λ is set for the next step (adaptive rule).

    The arithmetic exists twice: readable, for a batch of tensors at once (`_updates`, `_move`,
    `_follow`), and in C, in one pass over memory (`compiled`).
    """

    _CONTROL: ClassVar[tuple[str, ...]] = (*DualOptimizer._CONTROL, "_fused")

    def __init__(
        self,
        params: Groups,
        defaults: dict[str, Any],
        lambda_rule: LambdaRule | None,
        lambda_change: LambdaChange,
        fused: bool | None,
    ) -> None:
        self._fused = fused
        self._plans: dict[Any, StepPlan] = {}
        super().__init__(params, defaults, lambda_rule, lambda_change)

    @abstractmethod
    def _moments(self, group: dict[str, Any], state: dict[str, Any]) -> Moments:
        """A parameter's moments, and the number of steps that they have seen.

        From them the C code knows which step it is, see `Rule` in `kernels.c`.
        """

    @abstractmethod
    def _updates(self, group: dict[str, Any], batch: SlotBatch, gradients: Tensors) -> Tensors:
        """What is subtracted from the duals: the step size times the directions."""

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

    def _counted(self, plans: Sequence[StepPlan]) -> Tensor:
        """`measure_sparsity`, without a pass over the weights where this step has counted them."""
        regularised = [plan for plan in plans if plan.slots[0].dual is not None]
        counts = [plan.table.nonzero for plan in regularised if plan.table and not plan.sharded]
        known = [count for count in counts if count is not None]
        size = sum(slot.weight.numel() for plan in regularised for slot in plan.slots)
        if self._costs or len(known) != len(regularised) or not size:
            return self.measure_sparsity()
        return torch.tensor(1 - sum(known) / size, dtype=torch.float64)

    def _plan(self, key: Any, group: dict[str, Any], parameters: Sequence[Tensor]) -> StepPlan:
        """What a step of some parameters of a group works on, from the last step if it is that."""
        known = self._plans.get(key)
        states = [self.state.get(parameter) for parameter in parameters]
        traced = torch.compiler.is_compiling()
        settings = (group["regularizer"], bool(group.get("momentum")), self._landed, traced)
        if known is None or not known.holds_for(parameters, states, settings):
            slots = [self._slot(group, parameter) for parameter in parameters]
            compiles = all(self._compiles(slot.weight) for slot in slots)
            table = compiled.table_for(slots) if compiles else None
            known = self._plans[key] = StepPlan(slots, table, settings)
        return known

    def _slot(self, group: dict[str, Any], parameter: Tensor) -> Slot:
        state = self._prepare(group, parameter)
        follows = group["regularizer"] is not None  # it may have lost what it had
        dual, mask = (state.get(name) if follows else None for name in ("dual", "mask"))
        tensors = (dual, mask, *self._moments(group, state))
        parts = (None if tensor is None else local(tensor) for tensor in tensors)
        return Slot(parameter, state, local(parameter), *parts)

    def _move(
        self, group: dict[str, Any], plan: StepPlan, gradients: list[Tensor], follow: bool
    ) -> None:
        """Moves duals, or weights without one, along the gradients; then weights after duals."""
        if plan.sharded:
            gradients = [local(gradient) for gradient in gradients]
        if plan.table is not None:
            both = follow and self._shrinks(group)
            limit = float(self._lam) * group["lambda_scale"] if both else None
            plan.table.step(gradients, self._hyper(group), limit)
            if follow and not both:
                self._follow(group, plan)
            return
        for batch in plan.batches:
            own = [precise(gradients[place]) for place in batch.places]
            updates = self._updates(group, batch, own)
            if batch.masks:
                updates = torch._foreach_mul(updates, batch.masks)
            if batch.duals:
                torch._foreach_sub_(batch.duals, updates)
            else:
                torch._foreach_sub_(batch.weights, updates, alpha=self._gain(group))
            if follow:
                self._follow_batch(group, batch)

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        """Everything in a group that a step depends on, which the C code must know."""
        own = {name: group[name] for name in self.defaults if name not in _NOT_IN_C}
        return own | {"delta": self._gain(group)}

    def _follow(self, group: dict[str, Any], plan: StepPlan) -> None:
        """The weights from their duals; weights without one have moved already."""
        if plan.table is not None and self._shrinks(group):
            plan.table.prox(self._gain(group), float(self._lam) * group["lambda_scale"])
            return
        for batch in plan.batches:
            self._follow_batch(group, batch)

    def _follow_batch(self, group: dict[str, Any], batch: SlotBatch) -> None:
        if not batch.duals:
            return
        limit = self._limit(group, batch.duals[0])
        if batch.masks:
            values: Tensors = batch.duals
        elif self._shrinks(group):
            values = soft_threshold(batch.duals, limit)
        else:  # norms of groups may reach over the parts that other processes hold
            whole = zip(batch.parameters, batch.whole_duals, strict=True)
            prox = group["regularizer"].prox
            values = [local_part(parameter, prox(dual, limit)) for parameter, dual in whole]
        moved = torch._foreach_mul(values, self._gain(group))
        if any(weight.is_neg() for weight in batch.weights):  # which foreach does not know
            for weight, value in zip(batch.weights, moved, strict=True):
                weight.copy_(value)
        else:
            torch._foreach_copy_(batch.weights, moved)
        for weight, mask in zip(batch.weights, batch.masks, strict=False):
            revive(weight, mask)

    def _shrinks(self, group: dict[str, Any]) -> bool:
        """Whether the weights of a group are the soft thresholds of their duals."""
        return isinstance(group["regularizer"], L1) and not self._landed

    def _count_nonzero(self, weights: Sequence[Tensor]) -> Tensor:
        if weights and all(w.dtype == weights[0].dtype and self._compiles(w) for w in weights):
            return torch.tensor(compiled.count_nonzero(weights))
        return super()._count_nonzero(weights)

    def _compiles(self, tensor: Tensor) -> bool:
        """Whether the C code computes this tensor's step."""
        # torch.compile can trace neither addresses nor a call of C.
        if self._fused is False or torch.compiler.is_compiling():
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
