"""The λ of Bregman training that starts from a network which is sparse already."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.methods.base import Task
from sparsify.optim.lambda_rules import Quantile, QuantileLambda
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.schedules import SparsitySchedule
from sparsify.sparsity.table import sparsity_table


@torch.no_grad()
def start_lambda(task: Task, delta: float) -> float | None:
    """A λ at which the zeros of a sparse start stay until their duals have grown.

    The duals of zeros start at 0 and those of other weights beyond λ, `v = w/δ + λ·sign(w)`, so
    every λ gives the start back; but if it is small, the first steps carry most zeros past it. The
    scale of the duals is that of the weights: their mean size is taken.

    Returns:
        λ, or `None` if the start has no zeros, or more than the target, which then have to go.
    """
    table = sparsity_table(task.network, task.ignore)
    if not task.pretrained or not table.sparsity or not table.at_most(task.target_sparsity):
        return None
    weights = prunable_parameters(task.network, task.ignore).values()
    size = sum(float(weight.abs().sum()) for weight in weights)
    return size / max(sum(int(weight.count_nonzero()) for weight in weights), 1) / delta


class NearestQuantileLambda(QuantileLambda):
    """Of all λ that give the wanted sparsity, the one nearest to the last.

    A sparse start leaves a gap between the duals of its zeros and those of its weights. Every λ in
    it keeps the zeros, but the smallest, the quantile itself, would leave them no room, and all
    weights would change by as much as λ falls.

    Args:
        target_sparsity: A schedule of the wanted sparsity.
        every: Steps between two updates.
        smoothing: As in `QuantileLambda`.
        initial: λ before the first update.
        size: Number of regularised weights.
    """

    def __init__(
        self,
        target_sparsity: SparsitySchedule,
        every: int,
        smoothing: float,
        initial: float,
        size: int,
    ) -> None:
        super().__init__(target_sparsity, every, smoothing)
        self._initial = initial
        self.size = size

    @property
    def initial(self) -> float:
        """The given λ."""
        return self._initial

    def before_prox(self, lam: Tensor, quantile: Quantile, step: int) -> Tensor:
        """λ; moved to the quantile, or to just below the next dual, if it lies outside of them."""

        def nearest(sparsity: float) -> Tensor:
            lowest = quantile(sparsity).to(lam)
            above = quantile(min(sparsity + 1 / self.size, 1.0)).to(lam)
            highest = torch.nextafter(above, torch.zeros_like(above))
            return torch.maximum(torch.minimum(lam, highest), lowest)

        return super().before_prox(lam, nearest, step)
