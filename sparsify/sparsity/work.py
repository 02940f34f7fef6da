"""Multiply-adds, and those that the zeros save; importing this module takes no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Work(NamedTuple):
    """Multiply-adds, and how many of them multiply by a weight that is zero."""

    multiply_adds: int
    by_zeros: int

    @property
    def sparsity(self) -> float:
        """Share of the multiply-adds whose weight is zero, in [0, 1]."""
        return self.by_zeros / self.multiply_adds if self.multiply_adds else 0.0


NO_WORK = Work(0, 0)
SPEECH_SECONDS = 2
"""The length of the utterance that multiply-adds are counted for."""


def total_work(parts: Iterable[Work]) -> Work:
    """The sum over layers."""
    parts = tuple(parts)
    return Work(sum(each.multiply_adds for each in parts), sum(each.by_zeros for each in parts))
