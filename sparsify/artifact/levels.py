"""Weights as a few levels: odd numbers times a scale for some neighbours in an output channel.

Zeros are told by a mask. What is not zero needs no level for it: with `b` bits the levels are
±1, ±3, … ±(2ᵇ − 1), and no weight becomes zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SMALLEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Groups:
    """Which nonzeros of a weight share a scale.

    Attributes:
        count: How many scales there are, channel by channel.
        of_nonzeros: The number of the scale of each nonzero, in order; int64.
    """

    count: int
    of_nonzeros: Tensor

    def largest(self, values: Tensor) -> Tensor:
        """The largest absolute value of each group."""
        zeros = torch.zeros(self.count)
        return zeros.scatter_reduce_(0, self.of_nonzeros, values.abs(), "amax")

    def sums(self, values: Tensor) -> Tensor:
        """The sum of each group."""
        return torch.zeros(self.count).scatter_add_(0, self.of_nonzeros, values)

    def spread(self, scales: Tensor) -> Tensor:
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

    def groups(self, mask: Tensor) -> Groups:
        """Which nonzeros of a mask `(C, N)` share a scale."""
        nonzeros = mask.sum(1)
        most = self.neighbours or mask.shape[1]
        scales = (nonzeros + most - 1) // most
        row = torch.repeat_interleave(nonzeros)
        place = torch.arange(len(row)) - (nonzeros.cumsum(0) - nonzeros)[row]
        return Groups(int(scales.sum()), (scales.cumsum(0) - scales)[row] + place // most)

    def rounded(self, weight: Tensor) -> Tensor:
        """The weight `(C, ...)`, finite and float32, made of levels."""
        values, groups = self._grouped(weight)
        largest = groups.largest(values) / self.most
        best = self._short(largest).clamp(min=_SMALLEST)
        least = torch.full_like(best, torch.inf)
        for share in self.shares:
            scales = self._short(largest * share).clamp(min=_SMALLEST)
            errors = groups.sums((self._nearest(values, groups.spread(scales)) - values).square())
            best = torch.where(errors < least, scales, best)  # none is where squares overflow
            least = torch.minimum(errors, least)
        result = torch.zeros_like(weight)
        result[weight != 0] = self._nearest(values, groups.spread(best))
        return result

    def split(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """Scales and levels of a weight, in order, if it is made of them to the last bit.

        Args:
            weight: `(C, ...)`, finite, float32.

        Returns:
            Scales, float32, channel by channel; and the levels of all nonzeros, float32.
        """
        values, groups = self._grouped(weight)
        scales = groups.largest(values) / self.most
        levels = self._levels(values, groups.spread(scales))
        same = torch.equal(levels * groups.spread(scales), values)
        return (scales, levels) if same and torch.equal(self._short(scales), scales) else None

    def _grouped(self, weight: Tensor) -> tuple[Tensor, Groups]:
        """The nonzeros in order, and which share a scale."""
        rows = weight.reshape(len(weight), -1)
        return rows[rows != 0], self.groups(rows != 0)

    def _nearest(self, values: Tensor, scales: Tensor) -> Tensor:
        return self._levels(values, scales) * scales

    def _levels(self, values: Tensor, scales: Tensor) -> Tensor:
        """The nearest odd numbers."""
        return (2 * (values / scales / 2).floor() + 1).clamp(-self.most, self.most)

    def _short(self, scales: Tensor) -> Tensor:
        mantissa, exponent = torch.frexp(scales)
        size = 1 << self.digits
        return torch.ldexp((mantissa * size).round() / size, exponent)


GRIDS = {
    4: Grid(4, neighbours=32, digits=4, shares=tuple(step / 32 for step in range(32, 11, -1))),
    8: Grid(8, neighbours=None, digits=8, shares=(1.0,)),
}
"""By the bits of a level."""
