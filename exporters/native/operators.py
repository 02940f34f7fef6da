"""What the functions that lower PyTorch's operators work with."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsify.exporters.native.blob import MOST_EXPRESSIONS
from sparsify.exporters.native.buffers import ONE, Buffer, Length, Rows, row_ids
from sparsify.exporters.native.shapes import computed
from sparsify.exporters.native.steps import (
    Argument,
    Constant,
    Conv,
    Expression,
    Gather,
    Operand,
    Parameter,
    Rowwise,
    Steps,
    Value,
)
from sparsify.exporters.native.table import UnsupportedError

MOST_OUTPUTS = 65535
"""Of a matrix, whose rows the engine numbers in 16 bits."""


class Lowering:
    """What the functions of operators work with.

    Attributes:
        steps: What was lowered so far.
        layer: The module that the present operator belongs to.
        gathered: Results of gathering, by what was gathered: branches often want the same.
        numbers: Lengths and other numbers that the engine computes from the frames.
    """

    def __init__(self) -> None:
        self.steps = Steps()
        self.layer = ""
        self.gathered: dict[tuple[Any, ...], Rows] = {}
        self.numbers: set[Length] = set()

    def buffer(self, channels: int, frequencies: int, length: Length) -> Buffer:
        """A new one."""
        self._count(length)
        return self.steps.buffer(channels, frequencies, length)

    def multiply(
        self,
        weight: NDArray[Any],
        bias: NDArray[Any] | None,
        target: Buffer,
        buffers: NDArray[np.int64],
        index: NDArray[np.int64],
        shift: NDArray[np.int64],
        step: int = 0,
    ) -> None:
        """A matrix times rows; `Conv` has the arguments."""
        outputs = len(weight)
        if outputs > MOST_OUTPUTS:
            raise UnsupportedError(f"has more than {MOST_OUTPUTS} outputs")
        shifts = np.zeros(outputs) if bias is None else bias
        self.steps.steps.append(
            Conv(
                weight.astype(np.float32),
                shifts.astype(np.float32),
                target,
                buffers,
                index,
                shift,
                step,
                self.layer,
            )
        )

    def _count(self, number: Length) -> None:
        """Notes a length, or another number that the engine computes from the frames."""
        self.numbers.add(number)
        if len(self.numbers) > MOST_EXPRESSIONS:
            raise UnsupportedError(
                f"is where more than {MOST_EXPRESSIONS} different lengths of activations come"
                " together, so let convolutions keep the length by padding"
            )

    def rowwise(
        self, code: str, *operands: Value | Tensor | float | sympy.Expr, **options: Any
    ) -> Value:
        """An operation element by element; shapes broadcast as PyTorch's do."""
        time, length, shape = _common(operands)
        arguments = tuple(_argument(each, shape, time) for each in operands)
        for each in arguments:
            if isinstance(each, Expression):
                self._count(each.value)
        return self._emit(code, arguments, shape, time, length, **options)

    def over_time(self, code: str, value: Value, *, keep: bool) -> Value:
        """A reduction over time.

        Args:
            code: Which.
            value: What is reduced.
            keep: Whether the result keeps the axis, of size 1.
        """
        assert value.time is not None
        operand = Operand(value.rows.reshape(-1), value.length)
        reduced = self._emit(code, (operand,), value.rows.shape, None, ONE)
        return reduced if keep else Value(reduced.rows.squeeze(value.time), None)

    def affine(self, value: Value, scale: Tensor, shift: Tensor, axis: int) -> Value:
        """Scales and shifts along one axis.

        Args:
            value: What is scaled.
            scale, shift: As many numbers as the axis has elements.
            axis: Which; not the time axis.
        """
        shape = [1] * value.rows.ndim
        shape[axis] = -1

        def everywhere(numbers: Tensor) -> NDArray[np.float32]:
            values = numbers.to(torch.float32).reshape(shape).numpy()
            return np.broadcast_to(values, value.rows.shape).reshape(-1).copy()

        operand = Operand(value.rows.reshape(-1), value.length)
        options = {"scale": everywhere(scale), "shift": everywhere(shift)}
        return self._emit(
            "affine", (operand,), value.rows.shape, value.time, value.length, **options
        )

    def gather(
        self,
        rows: Rows,
        source: Length,
        length: Length,
        *,
        stride: int = 1,
        offset: int = 0,
        repeat: int = 1,
        padding: str = "zero",
    ) -> Rows:
        """Rows whose frame `i` is frame `stride · (i // repeat) + offset` of others.

        Args:
            rows: The others, any shape.
            source, length: Frames before and after.
            stride, offset, repeat: See above.
            padding: What lies beyond the ends: `zero`, `reflect` or `replicate`.

        Returns:
            Rows of the same shape.
        """
        if length.is_number:
            raise UnsupportedError(f"takes {length} frames of an utterance of any length")
        flat = np.unique(rows)
        key = (flat.tobytes(), length, stride, offset, repeat, padding)
        if key not in self.gathered:
            source_buffer = self.steps.buffers[int(flat[0] >> 32)]
            whole = np.array_equal(flat, row_ids(source_buffer, np.arange(source_buffer.rows)))
            grid = (source_buffer.channels, source_buffer.frequencies) if whole else (len(flat), 1)
            target = self.buffer(*grid, length)
            made = row_ids(target, np.arange(len(flat)))
            step = Gather(flat, source, target, made, stride, offset, repeat, padding)
            self.steps.steps.append(step)
            self.gathered[key] = made
        return self.gathered[key][np.searchsorted(flat, rows)]

    def regular(self, value: Value, frequencies: int) -> tuple[Buffer, NDArray[np.int64]]:
        """The buffer and rows of activations that a matrix reads at several frequencies.

        They are copied if they do not lie as they must.

        Args:
            value: Its rows seen as `(channels, frequencies)`.
            frequencies: How many.

        Returns:
            The buffer, and which of its channels each channel is.
        """
        grid = value.rows.reshape(-1, frequencies)
        buffer = self.steps.buffers[int(grid.flat[0] >> 32)]
        index = grid - row_ids(buffer, np.zeros(1, dtype=np.int64))
        if self._may_be_seen_as(buffer, index):
            buffer.channels, buffer.frequencies = grid.shape
        channels = index[:, 0]
        lies = (
            buffer.frequencies == frequencies
            and bool(((channels >= 0) & (channels < buffer.channels)).all())
            and np.array_equal(index, channels[:, None] + np.arange(frequencies) * buffer.channels)
        )
        if lies:
            return buffer, channels
        copied = self.buffer(len(grid), frequencies, value.length)
        target = np.arange(frequencies) * len(grid) + np.arange(len(grid))[:, None]
        operand = Operand(grid.reshape(-1), value.length)
        step = Rowwise(
            "copy", (operand,), copied, row_ids(copied, target.reshape(-1)), layer=self.layer
        )
        self.steps.steps.append(step)
        return copied, np.arange(len(grid))

    def _may_be_seen_as(self, buffer: Buffer, index: NDArray[np.int64]) -> bool:
        """Whether a buffer of channels may count as one of `(channels, frequencies)`.

        Steps that go row by row do not ask what the rows are; a matrix goes frequency by frequency.
        """
        return (
            (buffer.frequencies, buffer.margin) == (1, 0)
            and np.array_equal(index.T.reshape(-1), np.arange(buffer.rows))
            and not any(
                isinstance(each, Conv) and each.target is buffer for each in self.steps.steps
            )
        )

    def _emit(
        self,
        code: str,
        arguments: tuple[Argument, ...],
        shape: tuple[int, ...],
        time: int | None,
        length: Length,
        **options: Any,
    ) -> Value:
        """A step whose results lie frequency by frequency, as convolutions like them."""
        sizes = [size for axis, size in enumerate(shape) if axis != time and size > 1]
        grid = (sizes[0], sizes[1]) if len(sizes) == 2 else (int(np.prod(sizes)), 1)
        target = self.buffer(*grid, length)
        index = np.arange(grid[1]) * grid[0] + np.arange(grid[0])[:, None]
        rows = row_ids(target, index.reshape(-1))
        step = Rowwise(code, arguments, target, rows, layer=self.layer, **options)
        self.steps.steps.append(step)
        return Value(rows.reshape(shape), time, length)


def _common(
    operands: tuple[Value | Tensor | float | sympy.Expr, ...],
) -> tuple[int | None, Length, tuple[int, ...]]:
    """Time axis, length and shape of what operands broadcast to."""
    shapes = [
        each.rows.shape if isinstance(each, Value) else tuple(each.shape)
        for each in operands
        if isinstance(each, Value | Tensor)
    ]
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise UnsupportedError("takes tensors whose shapes it cannot broadcast") from error
    time, length = None, ONE
    for each in operands:
        if not isinstance(each, Value) or each.time is None:
            continue
        axis = each.time + len(shape) - each.rows.ndim
        if time is not None and (axis != time or length != each.length):
            raise UnsupportedError("takes tensors of different lengths")
        time, length = axis, each.length
    if time is not None and shape[time] != 1:
        raise UnsupportedError("takes a tensor with a value for every frame")
    return time, length, shape


def _argument(
    operand: Value | Tensor | float | sympy.Expr, shape: tuple[int, ...], time: int | None
) -> Argument:
    if isinstance(operand, Value):
        rows = np.broadcast_to(operand.rows, shape).reshape(-1)
        return Operand(rows, operand.length if operand.time is not None else ONE)
    if isinstance(operand, Tensor):
        values = np.broadcast_to(operand.to(torch.float32).numpy(), shape).reshape(-1)
        return Parameter(values.copy())
    if isinstance(operand, sympy.Expr) and not operand.is_number:
        return Expression(computed(operand))
    return Constant(float(operand))
