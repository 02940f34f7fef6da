"""Whole numbers of a range as symbols: uniform, or by a histogram that is stored before them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sparsify.artifact.ans import TOTAL, Decoder, Encoder, Symbols, short_float
from sparsify.errors import SparsifyError

_CODES = 32
"""How many shares a histogram can give to a number."""
_MANTISSA = 1


@dataclass(frozen=True)
class _Plan:
    """How numbers are stored.

    Attributes:
        low: The smallest.
        high: The largest.
        codes: The share of each number between, as a code of `short_float`; none if uniform.
        bits: What that takes.
    """

    low: int
    high: int
    codes: NDArray[np.int64] | None
    bits: float


def write_numbers(encoder: Encoder, numbers: NDArray[np.integer], bits: int) -> None:
    """Stores numbers of so many bits; how many there are, the reader must know."""
    if not numbers.size:
        return
    plan = _plan(numbers, bits)
    encoder.uniform([plan.low, plan.high], 1 << bits)
    if plan.low == plan.high:
        return
    encoder.uniform([plan.codes is not None], 2)
    if plan.codes is None:
        encoder.uniform(numbers - plan.low, plan.high - plan.low + 1)
    else:
        encoder.uniform(plan.codes, _CODES)
        encoder.weighted(numbers - plan.low, _weights(plan.codes))


def read_numbers(decoder: Decoder, count: int, bits: int) -> Symbols:
    """What `write_numbers` stored.

    Raises:
        SparsifyError: It is damaged.
    """
    if not count:
        return np.zeros(0, dtype=np.int32)
    low, high = decoder.uniform(2, 1 << bits).tolist()
    if low > high:
        raise SparsifyError(f"its numbers reach from {low} to {high}")
    if low == high:
        return np.full(count, low, dtype=np.int32)
    if decoder.uniform(1, 2)[0]:
        codes = decoder.uniform(high - low + 1, _CODES)
        numbers = decoder.weighted(count, _weights(codes))
    else:
        numbers = decoder.uniform(count, high - low + 1)
    numbers += low
    return numbers


def cost(numbers: NDArray[np.integer], bits: int) -> float:
    """About how many bits `write_numbers` takes."""
    return _plan(numbers, bits).bits


def _plan(numbers: NDArray[np.integer], bits: int) -> _Plan:
    low, high = int(numbers.min()), int(numbers.max())
    size = high - low + 1
    uniform = 2 * bits + numbers.size * np.log2(size)
    if size == 1:
        return _Plan(low, high, None, uniform)
    counts = np.bincount(numbers - low, minlength=size)
    codes = _shares(counts)
    weights = np.array(_weights(codes))
    table = 2 * bits + size * np.log2(_CODES)
    by_histogram = table - float(counts @ np.log2(weights / TOTAL))
    if by_histogram < uniform:
        return _Plan(low, high, codes, by_histogram)
    return _Plan(low, high, None, uniform)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nearest codes for counts, none for zero and the largest for the largest."""
    known = _known()
    scaled = counts * (known[-1] / counts.max())
    codes = np.searchsorted(np.sqrt(known[1:-1] * known[2:]), scaled) + 1
    return np.where(counts == 0, 0, codes)


def _weights(codes: NDArray[np.integer]) -> list[int]:
    """The weights of symbols by the codes of their shares; each has one, the last has the rest."""
    shares = _known()[codes].astype(np.int64)
    rest = TOTAL - len(shares)
    weights = 1 + shares * rest // max(1, int(shares.sum()))
    weights[-1] += TOTAL - int(weights.sum())
    return [int(weight) for weight in weights]


@cache
def _known() -> NDArray[np.float64]:
    return np.array([short_float(code, _MANTISSA) for code in range(_CODES)], dtype=np.float64)
