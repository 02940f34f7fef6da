"""Masks: which weights stay, chosen by size or at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsify.sparsity.allocation import LayerwiseAllocation, layer_counts


def zeros_wanted(parameters: int, sparsity: float) -> int:
    """The number of zeros that comes nearest to a sparsity."""
    return round(sparsity * parameters)


def largest_masks(scores: Sequence[Tensor], sparsity: float) -> list[Tensor]:
    """Boolean masks that keep the largest scores over all tensors together.

    Exactly `zeros_wanted` entries are masked out: among equal scores the later entry goes.

    Args:
        scores: Nonnegative importance per weight, one tensor per parameter, on one device.
        sparsity: Share of entries to mask out, in [0, 1].
    """
    size = sum(score.numel() for score in scores)
    return _largest(scores, size - zeros_wanted(size, sparsity))


def largest_in_each(scores: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """Boolean masks that keep a number of the largest scores of every tensor.

    Args:
        scores: Importance per weight, one tensor per parameter.
        counts: How many each keeps; among equal scores the earlier entry stays.
    """
    return [_largest([score], count)[0] for score, count in zip(scores, counts, strict=True)]


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


def _largest(scores: Sequence[Tensor], kept: int) -> list[Tensor]:
    flat = torch.cat([score.flatten() for score in scores])
    order = torch.sort(flat, descending=True, stable=True).indices
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[order[:kept]] = True
    parts = torch.split(mask, [score.numel() for score in scores])
    return [part.view_as(score) for part, score in zip(parts, scores, strict=True)]
