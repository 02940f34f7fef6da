"""Which weights vanish at which λ: the quantile of the duals, and the choice of the final zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsify.optim.compiled import dual_histogram
from sparsify.optim.regularizers import L1, Regularizer
from sparsify.optim.selection import (
    Bins,
    Histogram,
    Thresholds,
    count_up_to,
    order_statistic,
    scaled,
    threshold_histogram,
)
from sparsify.optim.sharding import Shards, local, reduced_like
from sparsify.sparsity.costs import Cost, total_cost, zeros_wanted
from sparsify.sparsity.masks import with_largest_at


@dataclass(frozen=True)
class Duals:
    """The dual variables of parameters of a group.

    Attributes:
        tensors: One for each parameter, float32 or float64.
        regularizer: Of the group.
        scale: By which λ is multiplied in this group.
        compiles: Whether there is compiled code for them.
        cost: What a weight counts for; those of a single tensor may differ.
    """

    tensors: Sequence[Tensor]
    regularizer: Regularizer
    scale: float
    compiles: bool
    cost: Cost = 1


def quantile(
    groups: Sequence[Duals],
    sparsity: float | Tensor,
    guess: Tensor | None = None,
    near: Tensor | None = None,
) -> Tensor:
    """The smallest λ at which the prox makes at least a share of the weights zero, 0-dim.

    Where weights differ in cost, it is a share of that.

    Args:
        groups: All duals, of one weight at least.
        sparsity: The share; a tensor is 0-dim.
        guess: Where λ may lie, see `order_statistic`.
        near: Where λ shall lie, 0-dim: of all λ up to the next threshold the nearest is taken.
    """
    duals, dtype = _tensors(groups), _dtype(groups)
    shards = Shards(duals)
    histograms, others = [], []
    for group in groups:
        own = [local(dual) for dual in group.tensors if shards.counter(dual) == shards.rank]
        fits = group.compiles and all(dual.dtype == dtype for dual in own)
        if own and fits and isinstance(group.regularizer, L1) and isinstance(group.cost, int):
            histograms.append(_times(group.cost, dual_histogram(own, group.scale)))
        else:
            others.append(group)
    if others:
        thresholds, counters = _thresholds(others, shards)
        counted = [t for t, by in zip(thresholds, counters, strict=True) if by == shards.rank]
        histograms.append(threshold_histogram(counted, dtype))

    def histogram(bins: Bins) -> Tensor:
        return shards.sum(torch.stack([count(bins) for count in histograms]).sum(0))

    size, device = _size(groups), duals[0].device
    if isinstance(sparsity, Tensor):
        rank = (sparsity.to(device) * size).round().long().clamp(1, size)
    else:
        rank = torch.full((), min(max(zeros_wanted(size, sparsity), 1), size), device=device)
    lowest = order_statistic(histogram, rank, dtype, guess)
    if near is None:
        return lowest
    more = (count_up_to(histogram, lowest) + 1).clamp(max=size)
    above = order_statistic(histogram, more, dtype, guess).to(near)
    lowest = lowest.to(near)
    return near.minimum(above.nextafter(torch.zeros_like(above))).maximum(lowest)


def choose_zeros(
    groups: Sequence[Duals], sparsity: float, *, keep_layers: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """Chooses the groups of weights with the smallest thresholds, together a share of all weights.

    Where weights differ in cost, it is a share of that. Among equal thresholds the later ones go.
    Where groups do not add up to the share, the last one to go goes whole.

    Args:
        groups: All duals.
        sparsity: The share.
        keep_layers: Whether the last group of a parameter stays, as far as there is room.

    Returns:
        The λ, 0-dim, below every threshold that stays and, ties and last groups apart, at or above
        those that go;
        and for each parameter which groups of the part that this process holds stay.
    """
    duals, dtype = _tensors(groups), _dtype(groups)
    shards = Shards(duals)
    zeros = zeros_wanted(_size(groups), sparsity)
    thresholds, counters = _thresholds(groups, shards)
    room = _size(groups) - zeros
    if keep_layers and shards.sum(_last_groups(thresholds).to(duals[0].device)) <= room:
        thresholds = [
            replace(each, values=with_largest_at(each.values, torch.inf)) for each in thresholds
        ]
    own = [t for t, rank in zip(thresholds, counters, strict=True) if rank == shards.rank]
    histogram = threshold_histogram(own, dtype)
    rank = torch.full((), max(zeros, 1), device=duals[0].device)
    lam = order_statistic(lambda bins: shards.sum(histogram(bins)), rank, dtype)
    equal = [each.values.to(dtype) == lam for each in thresholds]

    # Ties are in the order of parameters, of the processes that share one, and of its entries.
    ties = torch.zeros(len(thresholds), shards.count, dtype=torch.int64, device=rank.device)
    below = torch.zeros_like(rank)
    for row, (each, same, counter) in enumerate(zip(thresholds, equal, counters, strict=True)):
        if counter == shards.rank:
            ties[row, shards.rank] = (same * each.size).sum()
            below += ((each.values.to(dtype) < lam) * each.size).sum()
    shards.sum(ties)
    staying = ties.sum() - (zeros - shards.sum(below))
    before = (ties.flatten().cumsum(0) - ties.flatten()).view_as(ties)

    masks = []
    for row, (each, same, counter) in enumerate(zip(thresholds, equal, counters, strict=True)):
        ends = before[row, counter] + (same * each.size).flatten().cumsum(0).view_as(same)
        masks.append((each.values.to(dtype) > lam) | (same & (ends <= staying)))
    return torch.where(staying > 0, torch.nextafter(lam, torch.zeros_like(lam)), lam), masks


def _thresholds(groups: Sequence[Duals], shards: Shards) -> tuple[list[Thresholds], list[int]]:
    """The thresholds of each parameter, and the process that counts them."""
    found, counters = [], []
    for group in groups:
        for dual in group.tensors:
            values = reduced_like(dual, group.regularizer.thresholds(dual))
            size = _size_of_groups(dual, values, group.cost)
            found.append(Thresholds(scaled(local(values), group.scale), size))
            counters.append(shards.counter(values))
    return found, counters


def _last_groups(thresholds: Sequence[Thresholds]) -> Tensor:
    """What a group of every parameter counts for, at most, 0-dim."""
    there = [torch.as_tensor(each.size).max() for each in thresholds if each.values.numel()]
    return torch.tensor(sum(map(int, there)))


def _size_of_groups(dual: Tensor, thresholds: Tensor, cost: Cost) -> Cost:
    """What the weights of each group count for."""
    if isinstance(cost, int):
        return cost * (dual.numel() // max(thresholds.numel(), 1))
    return cost.sum_to_size(thresholds.shape)


def _times(factor: int, histogram: Histogram) -> Histogram:
    return lambda bins: factor * histogram(bins)


def _tensors(groups: Sequence[Duals]) -> list[Tensor]:
    return [dual for group in groups for dual in group.tensors]


def _dtype(groups: Sequence[Duals]) -> torch.dtype:
    """The type in which all thresholds are compared."""
    precise = any(dual.dtype == torch.float64 for dual in _tensors(groups))
    return torch.float64 if precise else torch.float32


def _size(groups: Sequence[Duals]) -> int:
    """What all weights count for."""
    return sum(total_cost(group.tensors, [group.cost] * len(group.tensors)) for group in groups)
