"""Convolutions over time, and over frequency and time."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from sparsify.exporters.native.buffers import (
    GROUPS_OF_A_PANEL,
    ONE,
    Length,
    buffers_of,
    indices_of,
    row_ids,
)
from sparsify.exporters.native.operators import Lowering
from sparsify.exporters.native.shapes import shape_of
from sparsify.exporters.native.steps import Value
from sparsify.exporters.native.table import UnsupportedError, operator

_FEW_FRAMES, _MOST_FRAMES = 5, 32
"""Frames past a panel's end that the arena always keeps, and can keep: a panel has more if there is
another one. Each takes the room of eight."""


@operator(torch.ops.aten.convolution.default)
def _convolution(
    lowering: Lowering,
    value: Value,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *,
    node: fx.Node,
) -> Value:
    constants = isinstance(weight, Tensor) and isinstance(bias, Tensor | None)
    if not constants or not isinstance(value, Value):
        raise UnsupportedError("has a weight that is computed")
    if transposed:
        raise UnsupportedError("is transposed")
    return convolve(
        lowering, value, weight, bias, stride, padding, dilation, groups, shape_of(node)
    )


def convolve(
    lowering: Lowering,
    value: Value,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    wanted: tuple[Length, ...],
) -> Value:
    """A convolution.

    Args:
        value: What is convolved, `(1, channels, …)`.
        weight: `(outputs, channels / groups, …)`.
        bias: `(outputs,)`, or none.
        stride, padding, dilation: Of each axis, or one for all.
        groups: Of channels.
        wanted: The shape of the result.
    """
    spatial = list(range(2, value.rows.ndim))
    still = [axis for axis in spatial if axis != value.time]
    if len(still) > 1:  # of a single position, they do not matter
        still = [axis for axis in still if value.rows.shape[axis] > 1 or weight.shape[axis] > 1]
    if len(still) > 1:
        raise UnsupportedError("has more than one axis beside time")
    dense = _ungrouped(weight.to(torch.float32).numpy(), groups)
    along = {axis: i for i, axis in enumerate(spatial)}

    def numbers(axis: int | None) -> tuple[int, int, int, int]:
        if axis is None:
            return 1, 1, 0, 1
        i = along[axis]
        one = [each[0] if len(each) == 1 else each[i] for each in (stride, padding, dilation)]
        return dense.shape[2 + i], one[0], one[1], one[2]

    frequency = still[0] if still else None
    time = value.time
    # (outputs, channels, frequency, time)
    used = [axis for axis in (frequency, time) if axis is not None]
    order = [0, 1, *used, *(axis for axis in spatial if axis not in used)]
    kernel = dense.transpose(order).reshape(
        dense.shape[0], dense.shape[1], numbers(frequency)[0], numbers(time)[0]
    )
    length = ONE if time is None else wanted[time]
    taps = _taps(lowering, value, numbers(time), length)
    frequencies = 1 if frequency is None else int(wanted[frequency])
    target = _at_frequencies(
        lowering, kernel, bias, taps, numbers(frequency), frequencies, frequency, length
    )
    sizes = [frequencies if axis == frequency else 1 for axis in spatial]
    return Value(target.rows.reshape(1, dense.shape[0], *sizes), time, length)


def _ungrouped(weight: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """The weight of a grouped convolution with its zeros written out."""
    if groups == 1:
        return weight
    outputs, inputs = len(weight) // groups, weight.shape[1]
    whole = np.zeros((len(weight), inputs * groups, *weight.shape[2:]), np.float32)
    for g in range(groups):
        rows = slice(g * outputs, (g + 1) * outputs)
        whole[rows, g * inputs : (g + 1) * inputs] = weight[rows]
    return whole


def _taps(
    lowering: Lowering, value: Value, numbers: tuple[int, int, int, int], length: Length
) -> list[tuple[Value, int]]:
    """What each tap of a kernel along time reads: activations, and a shift in frames."""
    size, stride, padding, dilation = numbers
    offsets = [tap * dilation - padding for tap in range(size)]
    if value.time is None:
        return [(value, 0)]
    same = stride == 1 and sympy.simplify(value.length - length) == 0
    if same and _keeps_halo(offsets):
        return [(value, offset) for offset in offsets]
    taps = []
    for offset in offsets:
        if stride == 1 and offset == 0 and same:
            taps.append((value, 0))
            continue
        rows = lowering.gather(value.rows, value.length, length, stride=stride, offset=offset)
        taps.append((Value(rows, value.time, length), 0))
    return taps


def _keeps_halo(offsets: list[int]) -> bool:
    """Whether a kernel reads frames past a panel's end from a halo, not from copies."""
    farthest = max(map(abs, offsets))
    halo = max(0, *offsets) - min(0, *offsets)
    # Of the taps; what is read as it is needs none.
    copies = GROUPS_OF_A_PANEL * sum(offset != 0 for offset in offsets)
    return farthest <= _FEW_FRAMES or (farthest <= _MOST_FRAMES and halo < copies)


def _at_frequencies(
    lowering: Lowering,
    kernel: NDArray[np.float32],
    bias: Tensor | None,
    taps: list[tuple[Value, int]],
    numbers: tuple[int, int, int, int],
    frequencies: int,
    axis: int | None,
    length: Length,
) -> Value:
    outputs, channels, height, width = kernel.shape
    _, stride, padding, dilation = numbers
    target = lowering.buffer(outputs, frequencies, length)
    buffers, index, shift = (np.zeros((channels, height, width), np.int64) for _ in range(3))
    step = 0
    for tap, (value, frames) in enumerate(taps):
        shift[:, :, tap] = frames
        if axis is None or (value.rows.shape[axis] == 1 and padding == 0):
            rows = value.rows.reshape(channels)
            buffers[:, :, tap] = buffers_of(rows)[:, None]
            index[:, :, tap] = indices_of(rows)[:, None]
            continue
        grid = Value(np.moveaxis(value.rows, axis, -1), value.time, value.length)
        buffer, where = lowering.regular(grid, value.rows.shape[axis])
        first = np.arange(height) * dilation - padding
        beyond = (frequencies - 1) * stride + first[-1] - (buffer.frequencies - 1)
        buffer.margin = max(buffer.margin, -int(first[0]), int(beyond))
        buffers[:, :, tap] = buffer.number
        index[:, :, tap] = where[:, None] + first * buffer.channels
        if step not in (0, stride * buffer.channels):
            raise UnsupportedError("reads activations that lie differently")
        step = stride * buffer.channels
    lowering.multiply(
        kernel.reshape(outputs, -1),
        None if bias is None else bias.to(torch.float32).numpy(),
        target,
        buffers.reshape(-1),
        index.reshape(-1),
        shift.reshape(-1),
        step,
    )
    rows = row_ids(target, np.arange(frequencies) * outputs + np.arange(outputs)[:, None])
    return Value(rows, None, length)


def matrix(
    lowering: Lowering,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    rows: NDArray[np.int64],
    length: Length,
) -> NDArray[np.int64]:
    """Rows that a matrix makes of others, frame by frame."""
    outputs = len(weight)
    target = lowering.buffer(outputs, 1, length)
    shift = np.zeros(len(rows), np.int64)
    lowering.multiply(weight, bias, target, buffers_of(rows), indices_of(rows), shift)
    return row_ids(target, np.arange(outputs))
