"""The blob of a program: arrays of words, and the numbers that depend on the frames."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import sympy
from numpy.typing import ArrayLike

from sparsify.exporters.native.buffers import Length

HEADER_WORDS = 16
MOST_EXPRESSIONS = 64
"""Numbers that depend on the frames, of which the engine has this many."""
_ANY = -(1 << 31)  # the least value of a number that may have any
_END, _CONSTANT, _FRAMES = range(3)
CODES = {
    "Add": 3,
    "Mul": 4,
    "FloorDiv": 5,
    "CleanDiv": 5,
    "Max": 6,
    "Min": 7,
    "Mod": 8,
    "PythonMod": 8,
}
"""The engine's codes for what sympy and PyTorch call these functions."""


class Blob:
    """Bytes in blocks of 64; what occurs again is stored once."""

    def __init__(self) -> None:
        self.parts: list[bytes] = [bytes(64 * (HEADER_WORDS // 16))]
        self.blocks = HEADER_WORDS // 16
        self._positions: dict[bytes, int] = {}

    def add(self, values: ArrayLike, dtype: type) -> int:
        """Appends an array; returns where it begins."""
        content = np.ascontiguousarray(values, dtype=dtype).tobytes()
        return self.add_bytes(content)

    def add_bytes(self, content: bytes) -> int:
        """Appends bytes; returns where they begin."""
        padded = content + bytes(-len(content) % 64)
        position = self._positions.setdefault(padded, self.blocks)
        if position == self.blocks:
            self.parts.append(padded)
            self.blocks += len(padded) // 64
        return position


@dataclass
class Numbers:
    """Lengths and other numbers that depend on the number of frames."""

    expressions: list[sympy.Expr] = field(default_factory=list)
    lengths: set[sympy.Expr] = field(default_factory=set)

    def length(self, expression: sympy.Expr) -> int:
        """The index of a length, which is at least 1 for the network to run."""
        self.lengths.add(expression)
        return self.of(expression)

    def of(self, expression: sympy.Expr) -> int:
        """The index of an expression."""
        if expression not in self.expressions:
            self.expressions.append(expression)
            assert len(self.expressions) <= MOST_EXPRESSIONS
        return self.expressions.index(expression)

    def words(self, frames: sympy.Expr, least: dict[Length, int]) -> list[int]:
        """All of them for the engine's stack machine, each after the least value it may have.

        Args:
            frames: The number of frames of an utterance.
            least: Frames that some lengths must have, if more than one.
        """
        words: list[int] = []
        for expression in self.expressions:
            words.append(least.get(expression, 1) if expression in self.lengths else _ANY)
            words += [*_words(expression, frames), _END]
        return words


def _words(expression: sympy.Expr, frames: sympy.Expr) -> list[int]:
    if expression == frames:
        return [_FRAMES]
    if expression.is_Integer:
        return [_CONSTANT, int(expression)]
    code = CODES[type(expression).__name__]
    first, *others = expression.args
    words = _words(first, frames)
    for each in others:
        words += [*_words(each, frames), code]
    return words
