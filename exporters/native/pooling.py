"""The highest and the mean of neighbours."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from torch import fx

from sparsify.exporters.native.buffers import Length
from sparsify.exporters.native.convolution import convolve
from sparsify.exporters.native.operators import Lowering
from sparsify.exporters.native.shapes import shape_of
from sparsify.exporters.native.steps import Value
from sparsify.exporters.native.table import UnsupportedError, operator

_aten = torch.ops.aten


@operator(_aten.max_pool2d_with_indices.default)
def _max_pool(
    lowering: Lowering,
    value: Value,
    kernel: list[int],
    stride: list[int] | None = None,
    padding: list[int] | None = None,
    dilation: list[int] | None = None,
    ceil_mode: bool = False,
    *,
    node: fx.Node,
) -> tuple[Value]:
    """Axis by axis.

    Beyond the ends, the last element is read again. It is in each such window anyway, as no window
    lies outside by more than its half.
    """
    if any(each != 1 for each in dilation or []):
        raise UnsupportedError("is dilated")
    dims = value.rows.ndim
    sizes = shape_of(node)
    for axis in (dims - 2, dims - 1):
        i = axis - dims
        numbers = kernel_of, step, around = tuple(
            (each * 2)[i] for each in (kernel, stride or kernel, padding or [0])
        )
        if axis == value.time and ceil_mode and step > kernel_of - around:
            # The tracer would say how many there are of its example only.
            raise UnsupportedError("has windows that may lie beyond the end")
        value = _highest(lowering, value, axis, numbers, sizes[axis])  # type: ignore[arg-type]
    return (value,)


def _highest(
    lowering: Lowering, value: Value, axis: int, numbers: tuple[int, int, int], size: Length
) -> Value:
    """The highest of each window along one axis, of which there are `size`."""
    kernel, stride, padding = numbers
    offsets = range(-padding, kernel - padding)
    if axis != value.time:
        last = value.rows.shape[axis] - 1
        first = np.arange(int(size)) * stride
        parts = [
            value.with_rows(np.take(value.rows, np.clip(first + each, 0, last), axis), value.time)
            for each in offsets
        ]
    elif kernel == stride == 1:
        return value
    else:
        parts = [
            Value(
                lowering.gather(
                    value.rows,
                    value.length,
                    size,
                    stride=stride,
                    offset=each,
                    padding="replicate",
                ),
                axis,
                size,
            )
            for each in offsets
        ]
    return reduce(lambda a, b: lowering.rowwise("maximum", a, b), parts)


@operator(_aten.avg_pool1d.default, _aten.avg_pool2d.default)
def _avg_pool(
    lowering: Lowering,
    value: Value,
    kernel: list[int],
    stride: list[int] | None = None,
    padding: list[int] | None = None,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
    *,
    node: fx.Node,
) -> Value:
    """Means of segments, which are then repeated for their frames (CAM++), or a convolution."""
    segment = kernel[-1]
    stride = list(stride or kernel)
    padded = any(padding or [])
    segments = (
        value.time == value.rows.ndim - 1
        and stride == list(kernel)
        and divisor is None
        and not padded
        and ceil_mode
        and all(each == 1 for each in kernel[:-1])
    )
    if segments:
        return Value(value.rows, value.time, shape_of(node)[value.time], segment)  # type: ignore[index]
    if value.time == 1 or value.rows.ndim != len(kernel) + 2:
        raise UnsupportedError("goes over channels")
    if ceil_mode or (padded and not count_include_pad):
        raise UnsupportedError("takes means of fewer values at the ends")
    channels = value.rows.shape[1]
    weight = torch.full((channels, 1, *kernel), 1 / (divisor or int(np.prod(kernel))))
    ones = [1] * len(kernel)
    return convolve(
        lowering, value, weight, None, stride, padding or [0], ones, channels, shape_of(node)
    )
