"""Rows of activations, and the buffers that they lie in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import sympy
from numpy.typing import NDArray

Length: TypeAlias = sympy.Expr
"""Frames of an activation, in terms of those of the utterance."""

ONE: Length = sympy.Integer(1)
"""The length of what has one value per utterance."""

Rows: TypeAlias = NDArray[np.int64]
"""Rows of buffers, as `row_ids` makes them."""

_SHIFT = 32
GROUPS_OF_A_PANEL = 8
"""Of eight frames."""


@dataclass(eq=False)
class Buffer:
    """Rows that one step writes: frequency by frequency, in each the channels.

    Attributes:
        number: Unique.
        channels: Rows of a frequency.
        frequencies: How many.
        length: Frames of each row.
        margin: Frequencies of zeros below and above, which convolutions need.
        left, right: Frames past the ends of panels that convolutions need.
        halo: Groups of room for them between rows.
    """

    number: int
    channels: int
    frequencies: int
    length: Length
    margin: int = 0
    left: int = 0
    right: int = 0
    halo: int = 0

    @property
    def rows(self) -> int:
        """All rows, without the margins."""
        return self.channels * self.frequencies

    @property
    def stride(self) -> int:
        """Lines from row to row: an odd number, so that short rows spread over a cache, too."""
        if self.length == ONE and not self.halo:
            return 1
        return _lines(GROUPS_OF_A_PANEL + self.halo) // 2 * 2 + 1

    @property
    def before(self) -> int:
        """Lines before the row of the first frequency: the margin, and room for its halo."""
        return _lines(self.left) + self.margin * self.channels * self.stride

    @property
    def lines(self) -> int:
        """All lines."""
        return self.before + (self.rows + self.margin * self.channels) * self.stride


def _lines(groups: int) -> int:
    """Lines that hold some groups of eight frames."""
    return -(-groups // 2)


def row_ids(buffer: Buffer, index: NDArray[np.int64]) -> Rows:
    """Rows of a buffer by their index (frequency × channels + channel)."""
    return (np.int64(buffer.number) << _SHIFT) + index


def buffers_of(rows: Rows) -> NDArray[np.int64]:
    """The numbers of the buffers that rows belong to."""
    return rows >> _SHIFT


def indices_of(rows: Rows) -> NDArray[np.int64]:
    """Which rows of their buffers."""
    return rows & ((1 << _SHIFT) - 1)
