"""Masks: which weights stay, chosen by size or at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsify.sparsity.allocation import Allocation, LayerwiseAllocation, layer_counts
from sparsify.sparsity.costs import Cost, spread, total_cost, zeros_wanted


def largest_masks(
    scores: Sequence[Tensor],
    sparsity: float,
    costs: Sequence[Cost] | None = None,
    allocation: Allocation = "global",
    *,
    keep_layers: bool = False,
) -> list[Tensor]:
    """Boolean masks that keep the largest scores over all tensors together, or in each of them.

    What is masked out costs exactly `zeros_wanted` or, where weights of different costs do not add
    up to that, more by less than one weight. Among equal scores the later entry goes.

    Args:
        scores: Importance per weight, one tensor per parameter, on one device; `-inf` never stays.
        sparsity: Share of the cost to mask out, in [0, 1].
        costs: Of each tensor; 1 by default, so that weights are counted.
        allocation: Which scores are compared.
        keep_layers: Whether the largest score of every tensor stays where all are compared, as far
            as there is room; else a tensor may lose all.
    """
    costs = [1] * len(scores) if costs is None else costs
    total = total_cost(scores, costs)
    kept = total - zeros_wanted(total, sparsity)
    if allocation == "global":
        first = [with_largest_at(each, torch.inf) for each in scores] if keep_layers else scores
        order = _order(first)
        together = spread(costs, scores)[order].cumsum(0)
        return _first(scores, order, int(torch.searchsorted(together, kept, right=True)))
    orders = [_order([score]) for score in scores]
    sums = [
        spread([cost], [score])[order].cumsum(0)
        for cost, score, order in zip(costs, scores, orders, strict=True)
    ]
    # What was masked before may have left less, by a part of a weight.
    there = sum(int(each[-1]) for each in sums if len(each))
    counts = layer_counts(
        [score.shape for score in scores],
        min(kept, there),
        allocation,
        [len(order) for order in orders],
        lambda layer, count: int(sums[layer][count - 1]),
    )
    triples = zip(scores, orders, counts, strict=True)
    return [_first([score], order, count)[0] for score, order, count in triples]


def with_largest_at(scores: Tensor, value: float) -> Tensor:
    """Scores with their largest raised to a value; where none may stay, as they are."""
    if not scores.numel() or scores.max() == -torch.inf:
        return scores
    raised = scores.clone(memory_format=torch.contiguous_format)
    raised.view(-1)[scores.argmax()] = value
    return raised


def largest_in_each(scores: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """Boolean masks that keep a number of the largest scores of every tensor.

    Args:
        scores: Importance per weight, one tensor per parameter.
        counts: How many each keeps; among equal scores the earlier entry stays.
    """
    pairs = zip(scores, counts, strict=True)
    return [_first([score], _order([score]), count)[0] for score, count in pairs]


@torch.no_grad()
def initialise_sparse(
    parameters: Sequence[Tensor],
    sparsity: float,
    seed: int,
    allocation: LayerwiseAllocation = "uniform",
) -> None:
    """Zeroes random weights of every tensor and rescales the rest, in place.

    Where a share ρ survives, the survivors grow by `1/√ρ`, which keeps the variance of the layer's
    output as it was (Bungert et al. 2022 §4). At least one weight per tensor survives.

    Args:
        parameters: The tensors.
        sparsity: Share of zeros in all of them together.
        seed: Decides which weights survive.
        allocation: How many survive in each tensor.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [parameter for parameter in parameters if parameter.numel()]
    size = sum(parameter.numel() for parameter in parameters)
    kept = max(size - zeros_wanted(size, sparsity), len(parameters))
    counts = layer_counts([parameter.shape for parameter in parameters], kept, allocation)
    for parameter, count in zip(parameters, counts, strict=True):
        chosen = torch.randperm(parameter.numel(), generator=generator)[:count]
        mask = torch.zeros(parameter.numel(), dtype=torch.bool, device=parameter.device)
        mask[chosen.to(parameter.device)] = True
        scaled = parameter * (parameter.numel() / count) ** 0.5
        parameter.copy_(torch.where(mask.view_as(parameter), scaled, torch.zeros_like(scaled)))


def _order(scores: Sequence[Tensor]) -> Tensor:
    """The places of scores in all tensors together, the largest first, without those of `-inf`."""
    flat = torch.cat([score.flatten() for score in scores])
    order = torch.sort(flat, descending=True, stable=True).indices
    return order[: int((flat > -torch.inf).sum())]


def _first(scores: Sequence[Tensor], order: Tensor, count: int) -> list[Tensor]:
    """Masks of the first places of an order."""
    sizes = [score.numel() for score in scores]
    mask = torch.zeros(sum(sizes), dtype=torch.bool, device=order.device)
    mask[order[:count]] = True
    parts = torch.split(mask, sizes)
    return [part.view_as(score) for part, score in zip(parts, scores, strict=True)]
