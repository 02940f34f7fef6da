"""ℓ1 with a prescribed sparsity: λ is found in rounds from the gradients of the last solution."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from sparsify.methods.base import Task
from sparsify.methods.proximal import ProximalMethod, ProximalOptions
from sparsify.optim.lambda_rules import FixedLambda
from sparsify.optim.prescribed import LambdaSearch, lambda_leaving
from sparsify.optim.regularizers import L1, parameter_groups
from sparsify.sparsity.allocation import Allocation
from sparsify.sparsity.costs import PricedWeights, kept_cost, spread

_TOLERANCE = 0.01
_NO_LAMBDA = 1e-30  # a scale of zero is refused


class PrescribedL1Options(ProximalOptions):
    """ProxSGD's hyperparameters, and the rounds.

    Attributes:
        rounds: How often λ is chosen; the steps before the landing are divided among the rounds.
        averaged: Batches over which gradients are averaged, at the end of a round, and at the very
            beginning, where there is no penalty yet.
        allocation: One λ for all layers (`global`), or one for each, which then has the sparsity
            that `uniform` or `erk` prescribes.
    """

    rounds: int = Field(default=8, ge=1)
    averaged: int = Field(default=20, ge=1)
    allocation: Allocation = "global"


class PrescribedL1(ProximalMethod[PrescribedL1Options]):
    """Single- and multi-parameter ℓ1 of prescribed sparsity (arXiv 2408.02801), with ProxSGD.

    The first λ is the order statistic of the gradients of the first batches. Every round trains
    with its λ, from the weights of the last round; `LambdaSearch` gives the next λ. After the last
    round, landing fixes the support, and the penalty is lifted.
    """

    Options = PrescribedL1Options

    def __init__(self, task: Task, options: PrescribedL1Options) -> None:
        prunable, *rest = parameter_groups(task.network, None, *task.selection)
        weights = prunable["params"]
        layerwise = options.allocation != "global"
        blocks = [[weight] for weight in weights] if layerwise else [weights]
        groups: list[dict[str, Any]] = [
            {"params": block, "regularizer": L1(), "lambda_scale": _NO_LAMBDA} for block in blocks
        ]
        # A block's λ is its scale: the optimizer's own λ is 1 until the landing.
        super().__init__(task, options, [*groups, *rest], FixedLambda(1.0))
        self.blocks = self.optimizer.param_groups[: len(blocks)]
        costs = [[cost] for cost in self.priced.costs] if layerwise else [self.priced.costs]
        self.priced_blocks = [PricedWeights(*both) for both in zip(blocks, costs, strict=True)]
        self.searches = [
            LambdaSearch(nonzero, round(_TOLERANCE * nonzero)) for nonzero in self._prescribed()
        ]
        self.averaged = min(options.averaged, max(self.pruning_step // (options.rounds + 1), 1))
        self.round_length = max((self.pruning_step - self.averaged) // options.rounds, 1)
        self.sums = {weight: torch.zeros_like(weight) for weight in weights}

    @property
    def rounds(self) -> int:
        """The trainings with a λ, unless the start is on target, and the one without."""
        return self.options.rounds + 1 if self.pruning_step else 1

    @property
    def lam(self) -> float:
        """λ now; where layers have their own, the mean over all weights."""
        scales = (b["lambda_scale"] * sum(w.numel() for w in b["params"]) for b in self.blocks)
        return self.optimizer.lam * sum(scales) / self.size

    def sparsity_target(self, step: int) -> float:
        """The target: every λ aims at it."""
        return self.target_sparsity

    def state_dict(self) -> dict[str, Any]:
        """That of any such method, what is known of λ, and the gradients summed so far."""
        return {
            **super().state_dict(),
            "known": [(search.lower, search.upper, search.before) for search in self.searches],
            "sums": [total.clone() for total in self.sums.values()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        super().load_state_dict(state)
        self.blocks = self.optimizer.param_groups[: len(self.searches)]  # which are new
        for search, known in zip(self.searches, state["known"], strict=True):
            search.lower, search.upper, search.before = known
        for total, saved in zip(self.sums.values(), state["sums"], strict=True):
            total.copy_(saved)

    def _prescribed(self) -> list[int]:
        """What the nonzeros of each block count for."""
        if self.options.allocation == "global":
            return [self.priced.kept(self.target_sparsity)]
        masks = self._chosen(self.target_sparsity, self.options.allocation)
        return [kept_cost(mask, cost) for mask, cost in zip(masks, self.priced.costs, strict=True)]

    @torch.no_grad()
    def _update(self) -> None:
        super()._update()
        if self.pruned:
            return
        done, left = divmod(self.steps_done - self.averaged, self.round_length)
        if done >= self.options.rounds or -left % self.round_length >= self.averaged:
            return
        for weight, total in self.sums.items():
            if weight.grad is not None:  # that of masked weights is masked
                total.add_(weight.grad, alpha=1 / self.averaged)
        if left == 0:
            self._begin_round(first=done == 0)

    def _begin_round(self, *, first: bool) -> None:
        for block, priced, search in zip(
            self.blocks, self.priced_blocks, self.searches, strict=True
        ):
            gradients = torch.cat([self.sums[weight].flatten() for weight in priced.weights])
            costs, nonzero = spread(priced.costs, priced.weights), priced.nonzero
            if first:
                search.before = nonzero
                block["lambda_scale"] = lambda_leaving(gradients, search.nonzero, costs)
            else:
                lam = block["lambda_scale"]
                block["lambda_scale"] = search.next(lam, gradients, nonzero, costs)
        for total in self.sums.values():
            total.zero_()

    def _choose_support(self) -> None:
        self._support(self.options.allocation)
