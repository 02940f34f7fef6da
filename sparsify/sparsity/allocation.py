"""How the weights that stay are shared out among the layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

LayerwiseAllocation = Literal["uniform", "erk"]
"""`uniform` gives every layer the same density. `erk` (Erdős–Rényi-Kernel, Evci et al. 2020 §3)
makes the density of a layer proportional to the sum of its dimensions over their product, so that
small layers stay denser; layers that would exceed density 1 are dense, and the rest share what is
left in the same proportions."""

Allocation = Literal["global", LayerwiseAllocation]
"""`global` compares all weights with each other, so that layers get what their weights earn."""


def layer_counts(
    shapes: Sequence[Sequence[int]],
    kept: int,
    allocation: LayerwiseAllocation,
    available: Sequence[int] | None = None,
) -> list[int]:
    """The number of weights that each layer keeps.

    The counts are proportional to the layers' shares as far as whole numbers and `available` allow
    (Webster's rounding, which never takes from a layer when `kept` grows). Every layer keeps a
    weight as long as there is one for each.

    Args:
        shapes: Shapes of the weights: `(out, in)`, `(out, in, *kernel)`.
        kept: Weights to keep in all layers together.
        allocation: What the shares are.
        available: Most weights that each layer may keep; all of them when not given.

    Raises:
        ValueError: More are to be kept than there are.
    """
    limits = [prod(shape) for shape in shapes] if available is None else list(available)
    if not 0 <= kept <= sum(limits):
        raise ValueError(f"{kept} weights cannot be kept of {sum(limits)}")
    # A density of ε·Σdims/Πdims leaves ε·Σdims weights.
    shares = [prod(shape) if allocation == "uniform" else sum(shape) for shape in shapes]
    scale = _scale(shares, limits, kept)
    pairs = list(zip(shares, limits, strict=True))
    counts = [min(limit, max(round(scale * share), 1)) for share, limit in pairs]
    layers = range(len(shapes))
    while sum(counts) < kept:
        free = [layer for layer in layers if counts[layer] < limits[layer]]
        counts[min(free, key=lambda layer: (counts[layer] + 0.5) / shares[layer])] += 1
    while sum(counts) > kept:
        # A layer's last weight goes when no other layer has more.
        counts[
            max(
                layers,
                key=lambda layer: (counts[layer] > 1, (counts[layer] - 0.5) / shares[layer]),
            )
        ] -= 1
    return counts


def _scale(shares: Sequence[int], limits: Sequence[int], kept: int) -> float:
    """The ε at which `Σ min(ε·share, limit)` is `kept`."""
    left, weight, scale = kept, sum(shares), 0.0
    order = sorted(range(len(shares)), key=lambda layer: limits[layer] / shares[layer])
    for layer in order:
        scale = left / weight
        if scale * shares[layer] <= limits[layer]:
            break
        left -= limits[layer]
        weight -= shares[layer]
    return scale
