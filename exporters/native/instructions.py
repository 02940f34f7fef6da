"""Instructions of rowwise operations, and the registers that they use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsify.exporters.native.arena import Arena
from sparsify.exporters.native.blob import Blob, Numbers
from sparsify.exporters.native.buffers import ONE
from sparsify.exporters.native.fusion import MOST_SCALARS, Group
from sparsify.exporters.native.pairs import combined
from sparsify.exporters.native.steps import (
    Argument,
    Constant,
    Expression,
    Operand,
    Parameter,
    Rowwise,
)

_SCALAR = 1 << 16
_INSTRUCTION_WORDS = 8
_ROWWISE = (
    "load", "load_scalar", "parameter", "constant", "expression", "store", "store_scalar",
    "add", "subtract", "multiply", "divide", "maximum", "minimum",
    "affine",
    "relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs", "erf",
    "sum", "max_over_time", "min_over_time",
    "segment_mean",
    "sum_product", "multiply_add", "exp_difference", "squared_difference",
)  # fmt: skip


class Registers:
    """Registers of one group, taken and given back."""

    def __init__(self) -> None:
        self.vectors = 0
        self.scalars = 0
        self.free: dict[bool, list[int]] = {True: [], False: []}

    def take(self, *, scalar: bool) -> int:
        """A register that nobody uses."""
        if self.free[scalar]:
            return self.free[scalar].pop()
        if not scalar:
            self.vectors += 1
            return self.vectors - 1
        self.scalars += 1
        assert self.scalars <= MOST_SCALARS
        return _SCALAR + self.scalars - 1

    def give_back(self, register: int) -> None:
        """Makes a register free."""
        self.free[register >= _SCALAR].append(register)


class Instructions:
    """The instructions of one group."""

    def __init__(self, group: Group, arena: Arena, blob: Blob, numbers: Numbers) -> None:
        self.arena, self.blob, self.numbers = arena, blob, numbers
        self.registers = Registers()
        self.members = combined(group.members, arena.kept)
        self.words: list[list[int]] = []
        self.held: dict[bytes, int] = {}  # by the rows that a register holds
        self.last: dict[bytes, int] = {}
        for position, step in enumerate(self.members):
            for each in step.arguments:
                if isinstance(each, Operand):
                    self.last[each.rows.tobytes()] = position

    def written(self) -> list[list[int]]:
        """All of them."""
        for position, step in enumerate(self.members):
            self._step(step)
            for key in [key for key, last in self.last.items() if last == position]:
                if key in self.held:
                    self.registers.give_back(self.held.pop(key))
                del self.last[key]
        return self.words

    def _step(self, step: Rowwise) -> None:
        temporary: list[int] = []
        sources = [self._source(each, temporary) for each in step.arguments]
        scalar = step.target.length == ONE
        if step.code == "copy":
            self._store(step, sources[0])
        else:
            target = self.registers.take(scalar=scalar)
            at = 0
            if step.code == "affine":
                at = self.blob.add(np.array([step.scale, step.shift]), np.float32)
            elif step.code == "segment_mean":
                at = step.segment
            self._emit(step.code, target, (*sources, 0, 0), at)
            self._store(step, target)
            key = step.rows.tobytes()
            if key in self.last:
                self.held[key] = target
            else:
                self.registers.give_back(target)
        for register in temporary:
            self.registers.give_back(register)

    def _store(self, step: Rowwise, register: int) -> None:
        if step.target.number in self.arena.kept:
            scalar = step.target.length == ONE
            self._move("store_scalar" if scalar else "store", 0, register, step.rows)

    def _move(self, code: str, target: int, source: int, rows: NDArray[np.int64]) -> None:
        """A load or store; lines that are evenly spread need no table."""
        lines = self.arena.physical(rows)
        steps = np.diff(lines)
        first, step = int(lines[0]), int(steps[0]) if len(steps) else 0
        table = 0 if (steps == step).all() else self.blob.add(lines, np.int32)
        self._emit(code, target, (source, 0, 0), table, first, step)

    def _source(self, argument: Argument, temporary: list[int]) -> int:
        """The register that holds an argument, which is loaded if none does."""
        match argument:
            case Operand():
                key = argument.rows.tobytes()
                if key not in self.held:
                    scalar = argument.length == ONE
                    register = self.registers.take(scalar=scalar)
                    code = "load_scalar" if scalar else "load"
                    self._move(code, register, 0, argument.rows)
                    self.held[key] = register
                return self.held[key]
            case Constant():
                bits = int(np.float32(argument.value).view(np.int32))
                return self._temporary("constant", bits, temporary)
            case Expression():
                index = self.numbers.of(argument.value)
                return self._temporary("expression", index, temporary)
            case Parameter():
                values = self.blob.add(argument.values, np.float32)
                return self._temporary("parameter", values, temporary)

    def _temporary(self, code: str, at: int, temporary: list[int]) -> int:
        register = self.registers.take(scalar=True)
        temporary.append(register)
        self._emit(code, register, (0, 0, 0), at)
        return register

    def _emit(self, code: str, target: int, sources: tuple[int, ...], at: int, *lines: int) -> None:
        words = [_ROWWISE.index(code), target, *sources[:3], at, *lines]
        self.words.append(words + [0] * (_INSTRUCTION_WORDS - len(words)))
