"""Which parameters a user wants to become sparse, or not; said without any network."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

_FOREIGN_MIN_SIZE = 64


class Selection(NamedTuple):
    """Which parameters may become sparse besides, or in spite of, the rule.

    Attributes:
        ignore: Glob patterns of parameter names to protect.
        include: Glob patterns of parameter names to prune as well.
    """

    ignore: Sequence[str] = ()
    include: Sequence[str] = ()


EVERYTHING = Selection()
"""What the rule says, and nothing else."""


def looks_prunable(shape: Sequence[int]) -> bool:
    """Whether a tensor of a shape, in a file that is not ours, may be a prunable weight."""
    return len(shape) >= 2 and prod(shape) > _FOREIGN_MIN_SIZE
