"""The exact quantile of many tensors by histograms, without a sort.

Nonnegative floats are ordered like their bit patterns, so that a few histograms over ever finer
intervals of bit patterns find an order statistic (a radix select). Histograms add up over devices,
need no copy of the data and no look at them by the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsify.sparsity.costs import Cost, spread

BITS = {torch.float32: 31, torch.float64: 63}
"""Bits of a nonnegative float."""

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
_MOST_BINS_LOG2 = 16
_BRACKET_BINS_LOG2 = 15
_BRACKETS = (
    16,
    12,
    8,
)  # 2^-16 … of all patterns, which is 0.4, 6 and 100 % of an octave of float32


@dataclass(frozen=True)
class Thresholds:
    """The λ at which groups of weights vanish, as far as this process counts them.

    Attributes:
        values: One for each group, nonnegative.
        size: Weights in a group, or what they cost: for all groups, or of the shape of `values`.
    """

    values: Tensor
    size: Cost


@dataclass(frozen=True)
class Bins:
    """`2**count_log2` intervals of `2**width_log2` bit patterns each, the first from `start`."""

    start: Tensor
    width_log2: int
    count_log2: int


Histogram = Callable[[Bins], Tensor]
"""Counts entries: below the bins, in each of them, above them; int64, `2 + 2**count_log2`."""


def order_statistic(
    histogram: Histogram, rank: Tensor, dtype: torch.dtype, guess: Tensor | None = None
) -> Tensor:
    """The smallest value that at least `rank` entries do not exceed, 0-dim.

    Args:
        histogram: Counts the entries.
        rank: From 1 to the number of entries, 0-dim.
        dtype: Type of the entries, float32 or float64.
        guess: Where the value may lie. Near it the search is much cheaper, because few entries fall
            into the bins, but the host looks at the counts.
    """
    start, span = torch.zeros((), dtype=torch.int64, device=rank.device), BITS[dtype]
    if guess is not None:
        start, span = _bracket(histogram, rank, guess.to(dtype)) or (start, span)
    while span > 0:
        count = min(span, _MOST_BINS_LOG2)
        span -= count
        index = _bin_of(histogram(Bins(start, span, count)), rank)
        start = start + ((index - 1) << span)
    return start.to(_INTEGERS[dtype]).view(dtype)


def count_up_to(histogram: Histogram, value: Tensor) -> Tensor:
    """How many entries do not exceed a value, 0-dim."""
    return histogram(Bins(_pattern(value) + 1, 0, 0))[0]


def scaled(thresholds: Tensor, scale: float) -> Tensor:
    """Thresholds of λ for weights whose λ is multiplied by `scale`.

    Rounded up where the quotient is not exact, so that `scale` times it reaches the threshold.
    """
    quotient = thresholds / scale
    short = quotient.double() * scale < thresholds.double()
    return torch.where(short, quotient.nextafter(torch.full_like(quotient, torch.inf)), quotient)


def threshold_histogram(thresholds: Sequence[Thresholds], dtype: torch.dtype) -> Histogram:
    """Counts weights by their thresholds, compared in `dtype`; all lie on one device."""

    def histogram(bins: Bins) -> Tensor:
        last = 1 << bins.count_log2
        counts = torch.zeros(last + 2, dtype=torch.int64, device=bins.start.device)
        for each in thresholds:
            offset = _pattern(each.values.flatten().to(dtype)) - bins.start
            position = (offset >> bins.width_log2).clamp_(-1, last).add_(1)
            counts.scatter_add_(0, position, spread([each.size], [each.values]))
        return counts

    return histogram


def _bracket(histogram: Histogram, rank: Tensor, guess: Tensor) -> tuple[Tensor, int] | None:
    """First pattern and span in bits of an interval near a guess that holds the rank, if any."""
    middle = _pattern(guess)
    for relative in _BRACKETS:
        span = BITS[guess.dtype] - relative
        start = (middle - (1 << (span - 1))).clamp(min=0)
        width = span - _BRACKET_BINS_LOG2
        index = _bin_of(histogram(Bins(start, width, _BRACKET_BINS_LOG2)), rank)
        if 1 <= index <= 1 << _BRACKET_BINS_LOG2:
            return start + ((index - 1) << width), width
    return None


def _bin_of(counts: Tensor, rank: Tensor) -> Tensor:
    """The bin in which the cumulative count reaches the rank."""
    return (counts.cumsum(0) < rank).sum()


def _pattern(values: Tensor) -> Tensor:
    return values.contiguous().view(_INTEGERS[values.dtype]).to(torch.int64)
