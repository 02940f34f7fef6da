"""The table of PyTorch's operators that can be lowered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Operator: TypeAlias = Callable[..., Any]
"""Takes the lowering and the operator's own arguments, tensors as `Value` or constant `Tensor`."""

OPERATORS: dict[Any, Operator] = {}


ON_SCORES: dict[Any, Operator] = {}
"""Those of products of frames, which are not computed before it is known what for."""

ON_SEGMENTS: set[Any] = set()
"""Operators that know what to do with the means of segments."""


def operator(
    *targets: Any, table: dict[Any, Operator] = OPERATORS, on_segments: bool = False
) -> Callable[[Operator], Operator]:
    """Registers how operators of PyTorch are lowered.

    Args:
        targets: The operators.
        table: Where to.
        on_segments: Whether they know what to do with the means of segments.
    """

    def register(function: Operator) -> Operator:
        table.update(dict.fromkeys(targets, function))
        if on_segments:
            ON_SEGMENTS.update(targets)
        return function

    return register


class UnsupportedError(Exception):
    """What the engine cannot do with an operator, in a few words."""
