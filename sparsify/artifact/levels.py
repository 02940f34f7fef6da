"""Weights as a few levels: odd numbers times a scale for some neighbours in an output channel.

Zeros are told by a mask. What is not zero needs no level for it: with `b` bits the levels are
±1, ±3, … ±(2ᵇ − 1), and no weight becomes zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_SMALLEST = np.finfo(np.float32).tiny

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Groups:
    """Which nonzeros of a weight share a scale.

    Attributes:
        count: How many scales there are, channel by channel.
        of_nonzeros: The number of the scale of each nonzero, in order; int64.
    """

    count: int
    of_nonzeros: NDArray[np.int64]

    def largest(self, values: Floats) -> Floats:
        """The largest absolute value of each group."""
        found = np.zeros(self.count, dtype=np.float32)
        np.maximum.at(found, self.of_nonzeros, np.abs(values))
        return found

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of each group."""
        found: NDArray[np.float64] = np.zeros(self.count)
        np.add.at(found, self.of_nonzeros, values)
        return found

    def spread(self, scales: Floats) -> Floats:
        """The scale of each nonzero."""
        return scales[self.of_nonzeros]


@dataclass(frozen=True)
class Grid:
    """How weights are rounded to levels of so many bits.

    Attributes:
        bits: Of a level.
        neighbours: How many nonzeros, one after the other in an output channel, share a scale; all
            of the channel if not given.
        digits: Binary digits of a scale. With these and a level of the largest weight that is the
            largest, a weight made of levels gives the same again.
        shares: Scales that are tried, as shares of the one at which the largest weight has the
            largest level; that of the smallest squared error is taken.
    """

    bits: int
    neighbours: int | None
    digits: int
    shares: tuple[float, ...]

    @property
    def most(self) -> int:
        """The largest level."""
        return (1 << self.bits) - 1

    def groups(self, mask: NDArray[np.bool_]) -> Groups:
        """Which nonzeros of a mask `(C, N)` share a scale."""
        nonzeros = mask.sum(1)
        most = self.neighbours or mask.shape[1]
        scales = (nonzeros + most - 1) // most
        row = np.repeat(np.arange(len(nonzeros)), nonzeros)
        place = np.arange(len(row)) - (nonzeros.cumsum() - nonzeros)[row]
        return Groups(int(scales.sum()), (scales.cumsum() - scales)[row] + place // most)

    def rounded(self, weight: Floats) -> Floats:
        """The weight `(C, ...)`, finite and float32, made of levels."""
        values, groups = self._grouped(weight)
        largest = groups.largest(values) / np.float32(self.most)
        best = np.maximum(self._short(largest), _SMALLEST)
        least = np.full(groups.count, np.inf)
        for share in self.shares:
            scales = np.maximum(self._short(largest * np.float32(share)), _SMALLEST)
            errors = self._nearest(values, groups.spread(scales)).astype(np.float64) - values
            squares = groups.sums(errors**2)
            best = np.where(squares < least, scales, best)
            least = np.minimum(squares, least)
        result = np.zeros_like(weight)
        result[weight != 0] = self._nearest(values, groups.spread(best))
        return result

    def split(self, weight: Floats) -> tuple[Floats, Floats] | None:
        """Scales and levels of a weight, in order, if it is made of them to the last bit.

        Args:
            weight: `(C, ...)`, finite, float32.

        Returns:
            Scales, float32, channel by channel; and the levels of all nonzeros, float32.
        """
        values, groups = self._grouped(weight)
        scales = groups.largest(values) / np.float32(self.most)
        levels = self._levels(values, groups.spread(scales))
        same = np.array_equal(levels * groups.spread(scales), values)
        return (scales, levels) if same and np.array_equal(self._short(scales), scales) else None

    def _grouped(self, weight: Floats) -> tuple[Floats, Groups]:
        """The nonzeros in order, and which share a scale."""
        rows = weight.reshape(len(weight), -1)
        return rows[rows != 0], self.groups(rows != 0)

    def _nearest(self, values: Floats, scales: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return self._levels(values, scales) * scales

    def _levels(self, values: Floats, scales: Floats) -> Floats:
        """The nearest odd numbers."""
        with np.errstate(divide="ignore", over="ignore"):  # of scales that are nothing
            odd = 2 * np.floor(values / scales / np.float32(2)) + np.float32(1)
        return np.clip(odd, np.float32(-self.most), np.float32(self.most))

    def _short(self, scales: Floats) -> Floats:
        mantissa, exponent = np.frexp(scales)
        size = np.float32(1 << self.digits)
        return np.ldexp(np.round(mantissa * size) / size, exponent)


GRIDS = {
    4: Grid(4, neighbours=32, digits=4, shares=tuple(step / 32 for step in range(32, 11, -1))),
    8: Grid(8, neighbours=None, digits=8, shares=(1.0,)),
}
"""By the bits of a level."""
