"""What weights count for: one each, or the multiply-adds that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

MOST_ABOVE_TARGET = 0.001
"""By how much a sparsity may exceed what was asked for."""

Cost = int | Tensor
"""What each weight of a tensor counts for: a whole number, or int64 of the tensor's shape."""


@dataclass(frozen=True)
class PricedWeights:
    """Weights, and what each of them counts for in a sparsity.

    Attributes:
        weights: The tensors.
        costs: Of each of them.
    """

    weights: Sequence[Tensor]
    costs: Sequence[Cost]

    @property
    def by_weight(self) -> dict[Tensor, Cost]:
        """The costs by their tensors."""
        return dict(zip(self.weights, self.costs, strict=True))

    @cached_property
    def total(self) -> int:
        """What all of them cost."""
        return total_cost(self.weights, self.costs)

    @property
    def nonzero(self) -> int:
        """What those cost that are not zero now."""
        pairs = zip(self.weights, self.costs, strict=True)
        return sum(kept_cost(weight.detach() != 0, cost) for weight, cost in pairs)

    @property
    def sparsity(self) -> float:
        """Share of the cost that falls on zeros now, in [0, 1]."""
        return (self.total - self.nonzero) / self.total if self.total else 0.0

    @property
    def dearest(self) -> int:
        """The largest cost of a weight."""
        return max((int(torch.as_tensor(cost).max()) for cost in self.costs), default=0)

    def kept(self, sparsity: float) -> int:
        """What may stay at a sparsity."""
        return self.total - zeros_wanted(self.total, sparsity)

    def on_target(self, sparsity: float, dearest: int = 0) -> bool:
        """Whether they have a sparsity now: not a weight less, and hardly more.

        Args:
            sparsity: The target.
            dearest: What the dearest channel costs, where whole channels become zero.
        """
        missing = self.kept(sparsity) - self.nonzero
        return 0 <= missing <= max(MOST_ABOVE_TARGET * self.total, self.dearest, dearest)


def compact(counts: Tensor) -> Cost:
    """The costs of a tensor's weights, one number where they are all the same."""
    same = counts.numel() and bool((counts == counts.flatten()[0]).all())
    return int(counts.flatten()[0]) if same else counts


def beside(cost: Cost, tensor: Tensor) -> Cost:
    """The costs of a tensor's weights, where it lies."""
    return cost if isinstance(cost, int) else cost.to(tensor.device)


def zeros_wanted(total: int, sparsity: float) -> int:
    """The number of zeros, or their cost, that comes nearest to a sparsity."""
    return round(sparsity * total)


def total_cost(tensors: Sequence[Tensor], costs: Sequence[Cost]) -> int:
    """What all entries of tensors cost."""
    return sum(
        cost * tensor.numel() if isinstance(cost, int) else int(cost.sum())
        for tensor, cost in zip(tensors, costs, strict=True)
    )


def kept_cost(mask: Tensor, cost: Cost) -> int:
    """What the entries of a mask cost that are set."""
    if isinstance(cost, int):
        return cost * int(mask.count_nonzero())
    return int(cost[mask].sum())


def spread(costs: Sequence[Cost], tensors: Sequence[Tensor]) -> Tensor:
    """The cost of every entry of tensors, one after the other; int64."""
    pairs = zip(tensors, costs, strict=True)
    return torch.cat(
        [torch.as_tensor(c, device=t.device).expand(t.shape).flatten() for t, c in pairs]
    )
