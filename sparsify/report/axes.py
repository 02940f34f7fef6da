"""Axes: from values to positions, with ticks that a reader would have chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_SPARSITIES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)

_TINY = 1e-100  # what is less is nothing: ticks would be nearer to each other than numbers are


@dataclass(frozen=True)
class Axis:
    """A scale and its ticks.

    Attributes:
        transform: Makes the scale linear.
        low: Lower end, transformed.
        high: Upper end, transformed.
        ticks: Values and their labels.
    """

    transform: Callable[[float], float]
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1; values beyond lie at the end."""
        share = (self.transform(value) - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)


def linear_axis(values: Iterable[float], count: int = 5) -> Axis:
    """An axis over all values whose ends are ticks.

    Args:
        values: What it must hold.
        count: About how many ticks.
    """
    known = [*values] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low < _TINY:
        pad = 0.1 * abs(high) if abs(high) > _TINY else 1.0
        low, high = low - pad, high + pad
    step = _nice_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple((n * step, _number(n * step, step)) for n in range(first, last + 1))
    return Axis(float, first * step, last * step, ticks)


def log_axis(values: Iterable[float]) -> Axis:
    """A logarithmic axis over all positive values, with round ticks or, if it is long, decades."""
    known = [value for value in values if value > _TINY] or [1.0, 10.0]
    low, high = math.log10(min(known)), math.log10(max(known))
    pad = max(0.06 * (high - low), 0.04)
    low, high = low - pad, high + pad
    decades = range(math.floor(low), math.ceil(high) + 1)
    few, narrow = high - low < 2.2, high - low < 1.1
    mantissas = (1, 1.5, 2, 3, 5, 7) if narrow else (1, 2, 5) if few else (1,)
    stride = max(1, round((high - low) / 4))
    marks = [
        mantissa * 10.0**decade
        for decade in decades
        for mantissa in mantissas
        if few or decade % stride == 0
    ]
    inside = [mark for mark in marks if low <= math.log10(mark) <= high]
    if len(inside) < 2:
        return _narrow_log_axis(low, high)
    return Axis(_log10, low, high, tuple((mark, _power(mark)) for mark in inside))


def sparsity_axis(values: Iterable[float], marked: Iterable[float] = ()) -> Axis:
    """An axis on which equal distances are equal factors in the number of weights left.

    Args:
        values: What it must hold.
        marked: Ticks; round numbers if not given.
    """
    known = [*values, *marked] or [0.9]
    low, high = (_emptiness(end(known)) for end in (min, max))
    low, high = max(0.0, low - 0.15), high + 0.1
    marks = sorted(marked) or [s for s in _SPARSITIES if low <= _emptiness(s) <= high]
    if len(marks) < 2:
        marks += [end(known) for end in (min, max)]
    return Axis(_emptiness, low, high, tuple((mark, f"{100 * mark:.5g}") for mark in marks))


def step_axis(last: float) -> Axis:
    """An axis of optimizer steps from 0 to the last."""
    step = _nice_step(last / 5)
    ticks = tuple((n * step, _steps(n * step)) for n in range(int(last / step + 1e-9) + 1))
    return Axis(float, 0.0, max(last, 1.0), ticks)


def without_crowding(
    ticks: Sequence[tuple[float, str]],
    position: Callable[[float], float],
    room: Callable[[str], float],
) -> list[tuple[float, str]]:
    """The ticks whose labels do not meet, preferring the first ones.

    Args:
        ticks: Values and their labels.
        position: Of a value.
        room: What a label takes, half of it on either side.
    """
    kept: list[tuple[float, str]] = []
    for value, text in ticks:
        if all(
            abs(position(value) - position(other)) >= (room(text) + room(name)) / 2
            for other, name in kept
        ):
            kept.append((value, text))
    return kept


def _narrow_log_axis(low: float, high: float) -> Axis:
    linear = linear_axis([10**low, 10**high], count=3)
    inside = tuple(t for t in linear.ticks if t[0] > 0 and low <= math.log10(t[0]) <= high)
    return Axis(_log10, low, high, inside)


def _log10(value: float) -> float:
    return math.log10(value) if value > 0 else -math.inf


def _emptiness(sparsity: float) -> float:
    return -math.log10(max(1 - sparsity, 1e-5))


def _power(mark: float) -> str:
    exponent = math.log10(mark)
    if not exponent.is_integer() or -4 < exponent < 4:
        return f"{mark:g}"
    return "10" + f"{exponent:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _nice_step(rough: float) -> float:
    decade = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(n * decade for n in (1, 2, 5, 10) if n * decade >= rough * 0.85)


def _number(value: float, step: float) -> str:
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}".replace("-0", "0") if value == 0 else f"{value:,.{digits}f}"


def _steps(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
