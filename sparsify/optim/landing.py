"""Landing: the choice of exactly the weights that are to be zero in the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsify.optim.selection import Thresholds, order_statistic, threshold_histogram
from sparsify.optim.sharding import Shards


def choose_zeros(
    thresholds: Sequence[Thresholds],
    counters: Sequence[int],
    zeros: int,
    dtype: torch.dtype,
    shards: Shards,
) -> tuple[Tensor, list[Tensor]]:
    """Chooses the groups of weights with the smallest thresholds, together `zeros` weights.

    Among equal thresholds the later ones go. Where groups do not add up to `zeros`, the last one to
    go goes whole.

    Args:
        thresholds: For each parameter those that this process holds.
        counters: For each parameter the process that counts these, see `Shards.counter`.
        zeros: Weights that are to be zero, over all processes.
        dtype: Type of the thresholds.
        shards: The processes that hold the rest.

    Returns:
        The λ, 0-dim, below every threshold that stays and, ties apart, at or above those that go;
        and for each parameter which groups stay.
    """
    own = [t for t, rank in zip(thresholds, counters, strict=True) if rank == shards.rank]
    histogram = threshold_histogram(own, dtype)
    rank = torch.full((), max(zeros, 1), device=thresholds[0].values.device)
    lam = order_statistic(lambda bins: shards.sum(histogram(bins)), rank, dtype)
    equal = [each.values.to(dtype) == lam for each in thresholds]

    # Ties are in the order of parameters, of the processes that share one, and of its entries.
    ties = torch.zeros(len(thresholds), shards.count, dtype=torch.int64, device=rank.device)
    below = torch.zeros_like(rank)
    for row, (each, same, counter) in enumerate(zip(thresholds, equal, counters, strict=True)):
        if counter == shards.rank:
            ties[row, shards.rank] = same.sum() * each.size
            below += (each.values.to(dtype) < lam).sum() * each.size
    shards.sum(ties)
    staying = ties.sum() - (zeros - shards.sum(below))
    before = (ties.flatten().cumsum(0) - ties.flatten()).view_as(ties)

    masks = []
    for row, (each, same, counter) in enumerate(zip(thresholds, equal, counters, strict=True)):
        ends = before[row, counter] + same.flatten().cumsum(0).view_as(same) * each.size
        masks.append((each.values.to(dtype) > lam) | (same & (ends <= staying)))
    return torch.where(staying > 0, torch.nextafter(lam, torch.zeros_like(lam)), lam), masks
