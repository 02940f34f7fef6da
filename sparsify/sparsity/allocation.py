"""How the weights that stay are shared out among the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor, prod
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
    cost: Callable[[int, int], int] = lambda _, count: count,
) -> list[int]:
    """The number of weights that each layer keeps.

    The counts are the layers' shares times a common factor, rounded, as far as `available` allows.
    No layer loses by a larger `kept`, and each keeps a weight as long as there is one for each.

    Args:
        shapes: Shapes of the weights: `(out, in)`, `(out, in, *kernel)`.
        kept: Weights to keep in all layers together, or what they may cost.
        allocation: What the shares are.
        available: Most weights that each layer may keep; all of them when not given.
        cost: Of a layer, by its place, if it keeps that many; their number by default.

    Raises:
        ValueError: More are to be kept than there are.
    """
    limits = [prod(shape) for shape in shapes] if available is None else list(available)

    def spent(counts: Sequence[int]) -> int:
        return sum(cost(layer, count) for layer, count in enumerate(counts) if count)

    if not 0 <= kept <= spent(limits):
        raise ValueError(f"{kept} weights cannot be kept of {spent(limits)}")
    # A density of ε·Σdims/Πdims leaves ε·Σdims weights.
    shares = [prod(shape) if allocation == "uniform" else sum(shape) for shape in shapes]
    layers = [layer for layer, limit in enumerate(limits) if limit]
    if kept < spent([int(limit > 0) for limit in limits]):
        chosen = [0] * len(limits)
        for layer in sorted(layers, key=lambda layer: -shares[layer]):
            chosen[layer] = int(spent(chosen) + cost(layer, 1) <= kept)
        return chosen

    def counts(scale: float) -> list[int]:
        return [
            min(limit, max(floor(scale * share + 0.5), 1))
            for share, limit in zip(shares, limits, strict=True)
        ]

    low, high = 0.0, sum(limits) + 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if spent(counts(middle)) <= kept else (low, middle)
    result, more = counts(low), counts(high)
    for layer in layers:
        grown = [*result[:layer], more[layer], *result[layer + 1 :]]
        if spent(grown) <= kept:
            result = grown
    return result
