"""Steps as the blob that the engine runs; `c/program.h` says how it is laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray

from sparsify.errors import SparsifyError
from sparsify.exporters.native.fusion import Fused, Group, combined, fuse, outside, stored
from sparsify.exporters.native.matrix import ROW, Chunk, pack
from sparsify.exporters.native.steps import (
    ONE,
    Argument,
    Buffer,
    Constant,
    Conv,
    Expression,
    Gather,
    Input,
    Length,
    Operand,
    Parameter,
    Rows,
    Rowwise,
    Steps,
    buffers_of,
    indices_of,
    read_buffers,
)

MAGIC = 0x59465053  # "SPFY"
VERSION = 1
_HEADER_WORDS = 16
_MOST_EXPRESSIONS = 64
_MOST_SCALARS = 32
_SCALAR = 1 << 16
_MOST_ROWS = 65535
_ANY = -(1 << 31)  # the least value of a number that may have any
_SMALLEST = np.finfo(np.float16).tiny  # below it half precision loses digits

_OPERATIONS = ("input", "zero", "halo", "gather", "conv", "rowwise")
_PADDINGS = ("zero", "reflect", "replicate")
_ROWWISE = (
    "load", "load_scalar", "parameter", "constant", "expression", "store", "store_scalar",
    "add", "subtract", "multiply", "divide", "maximum", "minimum",
    "affine",
    "relu", "sigmoid", "tanh", "exp", "log", "sqrt", "abs",
    "sum", "max_over_time", "min_over_time",
    "segment_mean",
    "sum_product", "multiply_add", "exp_difference", "squared_difference",
)  # fmt: skip
_RELU_BEFORE, _AFFINE, _RESIDUAL, _RELU_AFTER, _HALF = 1, 2, 4, 8, 16

Choose = Callable[[Conv], int]
"""How many rows of a layer share a pattern: 1 or `BLOCK`."""


@dataclass(frozen=True)
class Layer:
    """A matrix as it is stored.

    Attributes:
        name: Of the module.
        shape: Outputs and columns.
        nonzero: Its nonzeros.
        block: Rows that share a pattern.
        frequencies: How often each weight is used in a frame.
        length: Frames, in terms of those of the utterance.
    """

    name: str
    shape: tuple[int, int]
    nonzero: int
    block: int
    frequencies: int
    length: str


@dataclass(frozen=True)
class Program:
    """A blob, and what is in it.

    Attributes:
        blob: The bytes.
        layers: Its matrices, in order.
        positions: Which of its operations they are.
    """

    blob: bytes
    layers: tuple[Layer, ...]
    positions: tuple[int, ...]


class _Blob:
    """Bytes in blocks of 64."""

    def __init__(self) -> None:
        self.parts: list[bytes] = [bytes(64 * (_HEADER_WORDS // 16))]
        self.blocks = _HEADER_WORDS // 16

    def add(self, values: ArrayLike, dtype: type) -> int:
        """Appends an array; returns where it begins."""
        content = np.ascontiguousarray(values, dtype=dtype).tobytes()
        return self.add_bytes(content)

    def add_bytes(self, content: bytes) -> int:
        """Appends bytes; returns where they begin."""
        position = self.blocks
        padded = content + bytes(-len(content) % 64)
        self.parts.append(padded)
        self.blocks += len(padded) // 64
        return position


@dataclass
class _Numbers:
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
            if len(self.expressions) > _MOST_EXPRESSIONS:
                raise SparsifyError("the network has too many different lengths of activations")
        return self.expressions.index(expression)


def write_program(
    steps: Steps,
    *,
    feature_dim: int,
    sample_rate: int,
    front_end: bytes,
    choose: Choose,
    half: bool = False,
    least_frames: int = 1,
) -> Program:
    """Writes a network as a blob.

    Args:
        steps: The network; changed.
        feature_dim: Features of a frame.
        sample_rate: Of the front end, in Hz.
        front_end: Its section; empty if the features cannot be computed.
        choose: Which kernel each layer runs in.
        half: Store the values of matrices in half precision.
        least_frames: Frames that the network needs at least.

    Raises:
        SparsifyError: It is larger than the engine can address.
    """
    writer = _Writer(steps, choose, half)
    blob = writer.blob
    (source,) = (step.target for step in steps.steps if isinstance(step, Input))
    least = {**steps.least, source.length: max(least_frames, steps.least.get(source.length, 1))}
    words = writer.words
    header = [
        MAGIC,
        VERSION,
        feature_dim,
        len(steps.output),
        sample_rate,
        writer.rows,
        max(writer.registers, 1),
        writer.margin,
        writer.decoded,
        len(writer.numbers.expressions),
        blob.add(_expressions(writer.numbers, source.length, least), np.int32),
        len(words),
        blob.add(np.concatenate(words), np.int32),
        blob.add(writer.physical(steps.output), np.int32),
        blob.add_bytes(front_end) if front_end else 0,
    ]
    header += [0] * (_HEADER_WORDS - len(header))
    blob.parts[0] = np.array(header, np.int32).tobytes()
    conv = _OPERATIONS.index("conv")
    positions = tuple(i for i, each in enumerate(words) if each[0] == conv)
    return Program(b"".join(blob.parts), tuple(writer.layers), positions)


class _Writer:
    """Turns steps into the words of operations."""

    def __init__(self, steps: Steps, choose: Choose, half: bool) -> None:
        self.steps = steps
        self.choose, self.half = choose, half
        self.blob = _Blob()
        self.numbers = _Numbers()
        self.words: list[NDArray[np.int32]] = []
        self.layers: list[Layer] = []
        self.registers = self.decoded = 0
        self.margin = 16 if any(isinstance(step, Gather) for step in steps.steps) else 0
        (source,) = (step.target for step in steps.steps if isinstance(step, Input))
        self.numbers.length(source.length)
        fused = fuse(steps)
        self.kept = stored(fused, steps.output)
        halos = _halos(fused, steps)
        self.base, self.rows = _placed(fused, steps, self.kept)
        for step in fused:
            for target in _targets(step, self.kept):
                self._zero_margins(target)
            self._write(step)
            for target in _targets(step, self.kept):
                self._halo(target, halos)

    def physical(self, rows: Rows) -> NDArray[np.int64]:
        """Where rows lie in a panel."""
        return self._first_rows()[buffers_of(rows)] + indices_of(rows)

    def _first_rows(self) -> NDArray[np.int64]:
        return np.array(
            [
                self.base.get(each.number, 0) + each.margin * each.channels
                for each in self.steps.buffers
            ],
            np.int64,
        )

    def _first_row(self, buffer: Buffer) -> int:
        return self.base[buffer.number] + buffer.margin * buffer.channels

    def _operation(self, kind: str, length: Length, operands: Iterable[int]) -> None:
        values = list(operands)
        words = [_OPERATIONS.index(kind), 3 + len(values), self.numbers.length(length), *values]
        self.words.append(np.array(words, np.int64).astype(np.int32))

    def _zero_margins(self, buffer: Buffer) -> None:
        rows = buffer.margin * buffer.channels
        if rows:
            base = self.base[buffer.number]
            self._operation("zero", buffer.length, (base, rows))
            self._operation("zero", buffer.length, (base + rows + buffer.rows, rows))

    def _halo(self, buffer: Buffer, halos: dict[int, tuple[int, int]]) -> None:
        if buffer.left or buffer.right:
            first, count = halos[buffer.number]
            operands = (self._first_row(buffer) + first, count, buffer.left, buffer.right)
            self._operation("halo", buffer.length, operands)

    def _write(self, step: Fused) -> None:
        match step:
            case Input():
                operands = (self._first_row(step.target), step.target.rows)
                self._operation("input", step.target.length, operands)
            case Gather():
                self._gather(step)
            case Conv():
                self._conv(step)
            case Group():
                self._group(step)

    def _gather(self, step: Gather) -> None:
        self.margin = max(self.margin, -(-(step.most + 1) // 16) * 16)
        self.registers = max(self.registers, 1)
        operands = (
            self.numbers.length(step.source_length),
            step.stride,
            step.offset,
            _PADDINGS.index(step.padding),
            len(step.sources),
            self.blob.add(self.physical(step.sources), np.int32),
            self.blob.add(self.physical(step.rows), np.int32),
        )
        self._operation("gather", step.target.length, operands)

    def _conv(self, step: Conv) -> None:
        target = step.target
        outputs = len(step.weight)
        if outputs > _MOST_ROWS:
            raise SparsifyError(f"layer '{step.layer}' has more than {_MOST_ROWS} outputs")
        offsets = (self._first_rows()[step.buffers] + step.index) * ROW + step.shift
        block = self.choose(step)
        chunks = [self._chunk(each) for each in pack(step.weight, offsets, block)]
        flags = (
            _RELU_BEFORE * step.relu_before
            + _AFFINE * (step.scale is not None)
            + _RESIDUAL * (step.residual is not None)
            + _RELU_AFTER * step.relu_after
            + _HALF * self.half
        )
        none = np.zeros(outputs, np.float32)
        scale = none if step.scale is None else step.scale
        shift = none if step.shift_after is None else step.shift_after
        residual = (0, 0)
        if step.residual is not None:
            row = self._first_row(step.residual.buffer) + step.residual.row
            residual = (row, step.residual.step)
        operands = (
            target.frequencies,
            outputs,
            step.step,
            self._first_row(target),
            outputs,
            *residual,
            flags,
            self.blob.add([step.bias, scale, shift], np.float32),
            len(chunks),
            self.blob.add(chunks, np.int32),
        )
        self._operation("conv", target.length, operands)
        self.layers.append(
            Layer(
                step.layer,
                (outputs, step.weight.shape[1]),
                int(np.count_nonzero(step.weight)),
                block,
                target.frequencies,
                str(target.length),
            )
        )

    def _chunk(self, chunk: Chunk) -> list[int]:
        values = chunk.values
        if self.half:
            self.decoded = max(self.decoded, len(values))
        # What cannot be told from zero makes processors slow, and no difference.
        values = np.where(np.abs(values) < np.finfo(np.float32).tiny, np.float32(0), values)
        # The kernel reads four offsets at once, also where the last of all begin.
        return [
            chunk.origin,
            chunk.block,
            len(chunk.runs),
            len(values),
            self.blob.add(chunk.runs, np.int32),
            self.blob.add(chunk.rows, np.uint16),
            self.blob.add(np.append(chunk.offsets, np.zeros(4)), np.uint16),
            self.blob.add(values, np.float16 if self.half else np.float32),
        ]

    def _group(self, group: Group) -> None:
        registers = _Registers()
        instructions = _Instructions(self, group, registers)
        words = instructions.written()
        self.registers = max(self.registers, registers.vectors)
        at = self.blob.add(words, np.int32)
        self._operation("rowwise", group.length, (group.count, len(words), at))


class _Registers:
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
        if self.scalars > _MOST_SCALARS:
            raise SparsifyError("the network has too many values per utterance in one place")
        return _SCALAR + self.scalars - 1

    def give_back(self, register: int) -> None:
        """Makes a register free."""
        self.free[register >= _SCALAR].append(register)


class _Instructions:
    """The instructions of one group."""

    def __init__(self, writer: _Writer, group: Group, registers: _Registers) -> None:
        self.writer, self.registers = writer, registers
        self.members = combined(group.members, writer.kept)
        self.words: list[tuple[int, int, int, int, int, int]] = []
        self.held: dict[bytes, int] = {}  # by the rows that a register holds
        self.last: dict[bytes, int] = {}
        for position, step in enumerate(self.members):
            for each in step.arguments:
                if isinstance(each, Operand):
                    self.last[each.rows.tobytes()] = position

    def written(self) -> list[tuple[int, int, int, int, int, int]]:
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
                at = self.writer.blob.add([step.scale, step.shift], np.float32)  # type: ignore[list-item]
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
        if step.target.number in self.writer.kept:
            rows = self.writer.blob.add(self.writer.physical(step.rows), np.int32)
            scalar = step.target.length == ONE
            self._emit("store_scalar" if scalar else "store", 0, (register, 0, 0), rows)

    def _source(self, argument: Argument, temporary: list[int]) -> int:
        """The register that holds an argument, which is loaded if none does."""
        match argument:
            case Operand():
                key = argument.rows.tobytes()
                if key not in self.held:
                    scalar = argument.length == ONE
                    register = self.registers.take(scalar=scalar)
                    rows = self.writer.blob.add(self.writer.physical(argument.rows), np.int32)
                    self._emit("load_scalar" if scalar else "load", register, (0, 0, 0), rows)
                    self.held[key] = register
                return self.held[key]
            case Constant():
                bits = int(np.float32(argument.value).view(np.int32))
                return self._temporary("constant", bits, temporary)
            case Expression():
                index = self.writer.numbers.of(argument.value)
                return self._temporary("expression", index, temporary)
            case Parameter():
                values = self.writer.blob.add(argument.values, np.float32)
                return self._temporary("parameter", values, temporary)

    def _temporary(self, code: str, at: int, temporary: list[int]) -> int:
        register = self.registers.take(scalar=True)
        temporary.append(register)
        self._emit(code, register, (0, 0, 0), at)
        return register

    def _emit(self, code: str, target: int, sources: tuple[int, ...], at: int) -> None:
        a, b, c, *_ = sources
        self.words.append((_ROWWISE.index(code), target, a, b, c, at))


def _targets(step: Fused, kept: set[int]) -> list[Buffer]:
    """What a step writes that others read."""
    targets = [each.target for each in step.members] if isinstance(step, Group) else [step.target]
    return [each for each in targets if each.number in kept]


def _halos(fused: list[Fused], steps: Steps) -> dict[int, tuple[int, int]]:
    """The rows of each buffer that need a halo; how far is noted in the buffers."""
    ranges: dict[int, tuple[int, int]] = {}
    for step in fused:
        if not isinstance(step, Conv):
            continue
        for number in np.unique(step.buffers[step.shift != 0]):
            buffer = steps.buffers[number]
            columns = (step.buffers == number) & (step.shift != 0)
            buffer.left = max(buffer.left, -int(step.shift[columns].min()))
            buffer.right = max(buffer.right, int(step.shift[columns].max()))
            first, end = ranges.get(int(number), (buffer.rows, 0))
            if step.step:
                first, end = 0, buffer.rows
            else:
                first = min(first, int(step.index[columns].min()))
                end = max(end, int(step.index[columns].max()) + 1)
            ranges[int(number)] = (first, end)
    return {number: (first, end - first) for number, (first, end) in ranges.items()}


def _placed(fused: list[Fused], steps: Steps, kept: set[int]) -> tuple[dict[int, int], int]:
    """The first row of each buffer in a panel, and the rows of a panel.

    What is not needed any more makes room.
    """
    last = {number: position for position, step in enumerate(fused) for number in _read(step)}
    last.update({int(number): len(fused) for number in np.unique(buffers_of(steps.output))})
    base: dict[int, int] = {}
    alive: dict[int, tuple[int, int]] = {}
    rows = 0
    for position, step in enumerate(fused):
        for buffer in _targets(step, kept):
            first = _gap(sorted(alive.values()), buffer.all_rows)
            base[buffer.number] = first
            alive[buffer.number] = (first, first + buffer.all_rows)
            rows = max(rows, first + buffer.all_rows)
        alive = {
            number: place for number, place in alive.items() if last.get(number, -1) > position
        }
    return base, rows


def _read(step: Fused) -> set[int]:
    return outside(step) if isinstance(step, Group) else read_buffers(step)


def _gap(taken: list[tuple[int, int]], rows: int) -> int:
    """The first place between others where so many rows fit."""
    free = 0
    for first, end in taken:
        if first - free >= rows:
            return free
        free = max(free, end)
    return free


def _expressions(numbers: _Numbers, frames: sympy.Expr, least: dict[Length, int]) -> list[int]:
    codes = {
        "constant": 1,
        "frames": 2,
        "add": 3,
        "multiply": 4,
        "floor": 5,
        "max": 6,
        "min": 7,
        "modulo": 8,
    }
    words: list[int] = []

    def write(expression: sympy.Expr) -> None:
        if expression == frames:
            words.append(codes["frames"])
            return
        if expression.is_Integer:
            words.extend((codes["constant"], int(expression)))
            return
        name = type(expression).__name__
        known = {
            "Add": "add", "Mul": "multiply", "FloorDiv": "floor", "CleanDiv": "floor",
            "IntTrueDiv": "floor", "Max": "max", "Min": "min", "Mod": "modulo", "PythonMod": "modulo",
        }  # fmt: skip
        if name not in known:
            raise SparsifyError(f"the network has a length that cannot be written: {expression}")
        first, *others = expression.args
        write(first)
        for each in others:
            write(each)
            words.append(codes[known[name]])

    for expression in numbers.expressions:
        words.append(least.get(expression, 1) if expression in numbers.lengths else _ANY)
        write(expression)
        words.append(0)
    return words
