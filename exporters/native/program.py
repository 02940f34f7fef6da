"""Steps as the blob that the engine runs; `c/program.h` says how it is laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsify.exporters.native.arena import arrange
from sparsify.exporters.native.blob import HEADER_WORDS, Blob, Numbers
from sparsify.exporters.native.buffers import Buffer, Length
from sparsify.exporters.native.fusion import Fused, Group, fuse
from sparsify.exporters.native.instructions import Instructions
from sparsify.exporters.native.matrix import Chunk, pack
from sparsify.exporters.native.steps import Attention, Conv, Gather, Input, Steps

MAGIC = 0x59465053  # "SPFY"
VERSION = 3

_OPERATIONS = ("input", "zero", "halo", "gather", "conv", "rowwise", "attention")
_PADDINGS = ("zero", "reflect", "replicate")
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
        half: Store matrices in half precision whose values it holds without loss.
        least_frames: Frames that the network needs at least.
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
        writer.arena.lines,
        writer.arena.scalar_lines,
        writer.registers,
        writer.places,
        writer.decoded,
        len(writer.numbers.expressions),
        blob.add(writer.numbers.words(source.length, least), np.int32),
        len(words),
        blob.add(np.concatenate(words), np.int32),
        blob.add(writer.arena.physical(steps.output), np.int32),
        blob.add_bytes(front_end) if front_end else 0,
    ]
    header += [0] * (HEADER_WORDS - len(header))
    blob.parts[0] = np.array(header, np.int32).tobytes()
    conv = _OPERATIONS.index("conv")
    positions = tuple(i for i, each in enumerate(words) if each[0] == conv)
    return Program(b"".join(blob.parts), tuple(writer.layers), positions)


class _Writer:
    """Turns steps into the words of operations."""

    def __init__(self, steps: Steps, choose: Choose, half: bool) -> None:
        self.steps = steps
        self.choose, self.half = choose, half
        self.blob = Blob()
        self.numbers = Numbers()
        self.words: list[NDArray[np.int32]] = []
        self.layers: list[Layer] = []
        self.registers = self.decoded = self.places = 0
        (source,) = (step.target for step in steps.steps if isinstance(step, Input))
        self.numbers.length(source.length)
        fused = fuse(steps)
        self.arena = arrange(fused, steps)
        for step in fused:
            for target in self.arena.targets(step):
                self._zero_margins(target)
            self._write(step)
            if not isinstance(step, Conv):
                for target in self.arena.targets(step):
                    self._halo(target)

    def _operation(self, kind: str, length: Length, operands: Iterable[int]) -> None:
        values = list(operands)
        words = [_OPERATIONS.index(kind), 3 + len(values), self.numbers.length(length), *values]
        self.words.append(np.array(words, np.int64).astype(np.int32))

    def _rows(self, buffer: Buffer, first: int, count: int) -> tuple[int, int, int]:
        """The operands that say which rows of a buffer are meant."""
        stride = buffer.stride
        return self.arena.first_line(buffer) + first * stride, stride, count

    def _zero_margins(self, buffer: Buffer) -> None:
        count = buffer.margin * buffer.channels
        if count:
            for first in (-count, buffer.rows):
                operands = (*self._rows(buffer, first, count), buffer.left)
                self._operation("zero", buffer.length, operands)

    def _halo(self, buffer: Buffer) -> None:
        operands = self._halo_operands(buffer)
        if any(operands):
            self._operation("halo", buffer.length, operands)

    def _halo_operands(self, buffer: Buffer) -> tuple[int, ...]:
        """The rows that need a halo, and its frames to the left and right; zeros if none do."""
        if not (buffer.left or buffer.right):
            return (0, 0, 0, 0, 0)
        rows = self._rows(buffer, *self.arena.halos[buffer.number])
        return (*rows, buffer.left, buffer.right)

    def _write(self, step: Fused) -> None:
        match step:
            case Input():
                target = step.target
                self._operation("input", target.length, self._rows(target, 0, target.rows))
            case Gather():
                self._gather(step)
            case Conv():
                self._conv(step)
            case Attention():
                self._attention(step)
            case Group():
                self._group(step)

    def _gather(self, step: Gather) -> None:
        self.places = 1
        operands = (
            self.numbers.length(step.source_length),
            step.stride,
            step.offset,
            step.repeat,
            _PADDINGS.index(step.padding),
            len(step.sources),
            self.blob.add(self.arena.physical(step.sources), np.int32),
            self.blob.add(self.arena.physical(step.rows), np.int32),
        )
        self._operation("gather", step.target.length, operands)

    def _attention(self, step: Attention) -> None:
        heads, width = step.queries.shape
        operands = (
            self.numbers.length(step.key_length),
            heads,
            width,
            step.values.shape[1],
            int(np.float32(step.scale).view(np.int32)),
            *(
                self.blob.add(self.arena.physical(rows), np.int32)
                for rows in (step.queries, step.keys, step.values, step.rows)
            ),
        )
        self._operation("attention", step.target.length, operands)

    def _conv(self, step: Conv) -> None:
        target = step.target
        outputs = len(step.weight)
        lines = self.arena.lines_of(step.buffers, step.index)
        block = self.choose(step)
        half = self.half and _is_half(step.weight)
        chunks = [
            self._chunk(each, half=half) for each in pack(step.weight, lines, step.shift, block)
        ]
        if half:
            self.decoded = max(self.decoded, sum(values for _, _, _, values, *_ in chunks))
        flags = (
            _RELU_BEFORE * step.relu_before
            + _AFFINE * (step.scale is not None)
            + _RESIDUAL * (step.residual is not None)
            + _RELU_AFTER * step.relu_after
            + _HALF * half
        )
        affine = [each for each in (step.scale, step.shift_after) if each is not None]
        residual = (0, 0, 0)
        if step.residual is not None:
            stride = step.residual.buffer.stride
            line = self.arena.first_line(step.residual.buffer) + step.residual.row * stride
            residual = (line, step.residual.step * stride, stride)
        operands = (
            target.frequencies,
            outputs,
            step.step * self.steps.buffers[step.buffers[0]].stride,
            self.arena.first_line(target),
            outputs * target.stride,
            target.stride,
            *residual,
            flags,
            self.blob.add([step.bias, *affine], np.float32),
            len(chunks),
            self.blob.add(chunks, np.int32),
            *self._halo_operands(target),
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

    def _chunk(self, chunk: Chunk, *, half: bool) -> list[int]:
        values = chunk.values
        # What cannot be told from zero makes processors slow, and no difference.
        values = np.where(np.abs(values) < np.finfo(np.float32).tiny, np.float32(0), values)
        return [
            chunk.origin,
            chunk.block,
            len(chunk.runs),
            len(values),
            self.blob.add(chunk.runs, np.int32),
            self.blob.add(chunk.rows, np.uint16),
            self.blob.add(chunk.offsets, np.uint16),
            self.blob.add(values, np.float16 if half else np.float32),
        ]

    def _group(self, group: Group) -> None:
        instructions = Instructions(group, self.arena, self.blob, self.numbers)
        words = instructions.written()
        self.registers = max(self.registers, instructions.registers.vectors)
        self.places |= any(step.code == "segment_mean" for step in group.members)
        at = self.blob.add(words, np.int32)
        self._operation("rowwise", group.length, (group.count, len(words), at))


def _is_half(weight: NDArray[np.float32]) -> bool:
    """Whether half precision holds all values; those of a mean, such as 1/80, it does not."""
    with np.errstate(over="ignore"):
        return np.array_equal(weight.astype(np.float16), weight)
