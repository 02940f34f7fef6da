"""ℓ1 with a prescribed sparsity: λ is found in rounds from the gradients of the last solution."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from sparsify.methods.base import Task
from sparsify.methods.proximal import ProximalMethod, ProximalOptions
from sparsify.optim.groups import parameter_groups
from sparsify.optim.lambda_rules import FixedLambda
from sparsify.optim.prescribed import LambdaSearch
from sparsify.optim.regularizers import L1
from sparsify.recipe import OpenFraction
from sparsify.sparsity.allocation import Allocation, layer_counts
from sparsify.sparsity.masks import initialise_sparse

_TOLERANCE = 0.001


class PrescribedL1Options(ProximalOptions):
    """ProxSGD's hyperparameters, and the rounds.

    Attributes:
        rounds: How often λ is chosen; the steps before the landing are divided among the rounds.
        averaged: Batches at the end of a round over which gradients are averaged.
        allocation: One λ for all layers (`global`), or one for each, which then has the sparsity
            that `uniform` or `erk` prescribes.
        initial_sparsity: Share of zeros in every prunable tensor at the start, to be above the
            target; a network that is trained already starts as it is.
    """

    rounds: int = Field(default=8, ge=1)
    averaged: int = Field(default=20, ge=1)
    allocation: Allocation = "global"
    initial_sparsity: OpenFraction = 0.99


class PrescribedL1(ProximalMethod[PrescribedL1Options]):
    """Single- and multi-parameter ℓ1 of prescribed sparsity (arXiv 2408.02801), with ProxSGD.

    Every round trains with its λ, from the weights of the last round; `LambdaSearch` gives the next
    λ. After the last round, landing fixes the support, and the penalty is lifted.
    """

    Options = PrescribedL1Options

    def __init__(self, task: Task, options: PrescribedL1Options) -> None:
        prunable, *rest = parameter_groups(task.network, ignore=task.ignore)
        weights = prunable["params"]
        if not task.pretrained:
            initialise_sparse(weights, options.initial_sparsity, task.seed)
        layerwise = options.allocation != "global"
        blocks = [[weight] for weight in weights] if layerwise else [weights]
        groups: list[dict[str, Any]] = [{"params": b, "regularizer": L1()} for b in blocks]
        # A block's λ is its scale: the optimizer's own λ is 1 until the landing.
        super().__init__(task, options, [*groups, *rest], FixedLambda(1.0))
        self.blocks = self.optimizer.param_groups[: len(blocks)]
        self.searches = [
            LambdaSearch(nonzero, round(_TOLERANCE * sum(w.numel() for w in block)))
            for nonzero, block in zip(self._prescribed(), blocks, strict=True)
        ]
        self.round_length = max(self.pruning_step // options.rounds, 1)
        self.sums = {weight: torch.zeros_like(weight) for weight in weights}

    @property
    def rounds(self) -> int:
        """The trainings with a λ, and the one without."""
        return self.options.rounds + 1

    @property
    def lam(self) -> float:
        """λ now; where layers have their own, the mean over all weights."""
        scales = (b["lambda_scale"] * sum(w.numel() for w in b["params"]) for b in self.blocks)
        return self.optimizer.lam * sum(scales) / self.size

    def state_dict(self) -> dict[str, Any]:
        """That of any such method, what is known of λ, and the gradients summed so far."""
        return {
            **super().state_dict(),
            "bounds": [(search.lower, search.upper) for search in self.searches],
            "sums": [total.clone() for total in self.sums.values()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        super().load_state_dict(state)
        self.blocks = self.optimizer.param_groups[: len(self.searches)]  # which are new
        for search, bounds in zip(self.searches, state["bounds"], strict=True):
            search.lower, search.upper = bounds
        for total, saved in zip(self.sums.values(), state["sums"], strict=True):
            total.copy_(saved)

    def _prescribed(self) -> list[int]:
        """The number of nonzeros of each block."""
        kept, allocation = self._kept(self.target_sparsity), self.options.allocation
        if allocation == "global":
            return [kept]
        available = [int(mask.sum()) for mask in self.masks]
        return layer_counts([w.shape for w in self.weights], kept, allocation, available)

    @torch.no_grad()
    def _update(self) -> None:
        step, length = self.steps_done, self.round_length
        self._mask_gradients()
        if step == 1:
            for block, search in zip(self.blocks, self.searches, strict=True):
                gradients = _flat([w.grad for w in block["params"] if w.grad is not None])
                block["lambda_scale"] = search.first(gradients, _nonzero(block))
        searching = step <= (self.options.rounds - 1) * length
        averaged = min(self.options.averaged, length)
        if searching and -step % length < averaged:
            for weight, total in self.sums.items():
                if weight.grad is not None:
                    total.add_(weight.grad, alpha=1 / averaged)
        super()._update()
        if searching and step % length == 0:
            self._next_round()

    def _next_round(self) -> None:
        for block, search in zip(self.blocks, self.searches, strict=True):
            gradients = _flat([self.sums[weight] for weight in block["params"]])
            block["lambda_scale"] = search.next(block["lambda_scale"], gradients, _nonzero(block))
        for total in self.sums.values():
            total.zero_()

    def _choose_support(self) -> None:
        self._support(self.options.allocation)


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _nonzero(block: dict[str, Any]) -> int:
    return int(sum(weight.count_nonzero() for weight in block["params"]))
