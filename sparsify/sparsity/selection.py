"""Which parameters a user wants to become sparse, or not; said without any network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


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
