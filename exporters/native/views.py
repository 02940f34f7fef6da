"""Operators that only say which rows are meant."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import sympy
import torch
from torch import fx

from sparsify.exporters.native.buffers import ONE, buffers_of
from sparsify.exporters.native.operators import Lowering
from sparsify.exporters.native.shapes import shape_of
from sparsify.exporters.native.steps import Operand, Value
from sparsify.exporters.native.table import UnsupportedError, operator

_aten = torch.ops.aten


@operator(_aten.clone.default, _aten.alias.default, on_segments=True)
def _same(lowering: Lowering, value: Value, *, node: fx.Node, **options: Any) -> Value:
    return value


@operator(_aten.permute.default, on_segments=True)
def _permute(lowering: Lowering, value: Value, axes: list[int], *, node: fx.Node) -> Value:
    order = [axis % value.rows.ndim for axis in axes]
    time = None if value.time is None else order.index(value.time)
    return value.with_rows(value.rows.transpose(order), time)


@operator(_aten.unsqueeze.default, on_segments=True)
def _unsqueeze(lowering: Lowering, value: Value, axis: int, *, node: fx.Node) -> Value:
    axis %= value.rows.ndim + 1
    time = value.time
    if time is not None and axis <= time:
        time += 1
    return value.with_rows(np.expand_dims(value.rows, axis), time)


@operator(_aten.squeeze.dims, _aten.squeeze.dim, on_segments=True)
def _squeeze(lowering: Lowering, value: Value, axes: list[int] | int, *, node: fx.Node) -> Value:
    dims = value.rows.ndim
    wanted = [axes] if isinstance(axes, int) else axes
    gone = [
        axis % dims for axis in wanted if value.rows.shape[axis] == 1 and axis % dims != value.time
    ]
    time = value.time
    if time is not None:
        time -= sum(axis < time for axis in gone)
    return value.with_rows(value.rows.squeeze(tuple(gone)), time)


@operator(_aten.view.default, on_segments=True)
def _view(lowering: Lowering, value: Value, shape: Any, *, node: fx.Node) -> Value:
    wanted = shape_of(node)
    if value.time is None:
        return value.with_rows(value.rows.reshape([int(size) for size in wanted]), None)
    if value.segment:
        return _joined_segments(value, wanted)
    times = [axis for axis, size in enumerate(wanted) if size == value.length]
    for time in times:
        sizes = [sympy.Integer(1) if axis == time else size for axis, size in enumerate(wanted)]
        before = int(np.prod(value.rows.shape[: value.time]))
        if all(size.is_number for size in sizes) and int(np.prod(sizes[:time])) == before:
            return value.with_rows(value.rows.reshape([int(size) for size in sizes]), time)
    return _repeated_frames(lowering, value, wanted)


def _repeated_frames(lowering: Lowering, value: Value, wanted: tuple[sympy.Expr, ...]) -> Value:
    """Frames and the copies of each, as one sequence."""
    time = value.time
    assert time is not None
    sizes = value.rows.shape
    copies = sizes[time + 1] if time + 1 < len(sizes) else 0
    one = value.rows.take([0], time + 1) if copies else value.rows
    fits = (
        copies > 1
        and bool((value.rows == one).all())
        and len(wanted) == len(sizes) - 1
        and sympy.expand(wanted[time] - copies * value.length) == 0
        and tuple(wanted[:time]) + tuple(wanted[time + 1 :]) == sizes[:time] + sizes[time + 2 :]
    )
    if not fits:
        raise UnsupportedError("mixes time with another axis")
    rows = lowering.gather(one.squeeze(time + 1), value.length, wanted[time], repeat=copies)
    return Value(rows, time, wanted[time])


def _joined_segments(value: Value, wanted: tuple[sympy.Expr, ...]) -> Value:
    """Means of segments, repeated for each of their frames, as one sequence again."""
    time = value.time
    assert time is not None
    joined = sympy.expand(value.length * value.segment)
    fits = (
        not value.joined
        and len(wanted) == value.rows.ndim - 1
        and value.rows.shape[time + 1 :] == (value.segment,)
        and sympy.expand(wanted[time] - joined) == 0
        and tuple(wanted[:time]) == value.rows.shape[:time]
    )
    if not fits:
        raise UnsupportedError("uses the means of segments in an unknown way")
    return Value(value.rows[..., 0], time, wanted[time], value.segment, joined=True)


@operator(_aten.as_strided.default)
def _as_strided(
    lowering: Lowering,
    value: Value,
    shape: list[int],
    strides: list[int],
    offset: int | None = None,
    *,
    node: fx.Node,
) -> Value:
    """Of a single value per channel it is a view (adaptive pooling)."""
    counts = np.cumprod([1, *shape[:0:-1]])[::-1]
    whole = all(
        size == 1 or step == count for size, step, count in zip(shape, strides, counts, strict=True)
    )
    if value.time is not None or offset or not whole or np.prod(shape) != value.rows.size:
        raise UnsupportedError("takes elements apart")
    return value.with_rows(value.rows.reshape(shape), None)


@operator(_aten.repeat.default)
def _repeat(lowering: Lowering, value: Value, repeats: list[Any], *, node: fx.Node) -> Value:
    added = len(repeats) - value.rows.ndim
    time = None if value.time is None else value.time + added
    if time is not None and repeats[time] != 1:
        raise UnsupportedError("repeats time")
    shape = shape_of(node)
    moving = [axis for axis, size in enumerate(shape) if not size.is_number and axis != time]
    rows = value.rows.reshape((1,) * added + value.rows.shape)
    if any(rows.shape[axis] != 1 for axis in moving):
        raise UnsupportedError("repeats more than one value for every frame")
    rows = np.tile(rows, [1 if axis in moving else each for axis, each in enumerate(repeats)])
    if not moving:
        return value.with_rows(rows, time)
    return _repeated(lowering, Value(rows, moving[0], shape[moving[0]]))


@operator(_aten.expand.default, on_segments=True)
def _expand(
    lowering: Lowering, value: Value, sizes: Any, *, node: fx.Node, **options: Any
) -> Value:
    wanted = shape_of(node)
    added = len(wanted) - value.rows.ndim
    rows = value.rows.reshape((1,) * added + value.rows.shape)
    time = None if value.time is None else value.time + added
    moving = [axis for axis, size in enumerate(wanted) if not size.is_number]
    shape = [1 if axis in moving else int(size) for axis, size in enumerate(wanted)]
    rows = np.broadcast_to(rows, shape)
    if time is not None or not moving:
        return value.with_rows(rows, time)
    still = Value(rows, moving[0], wanted[moving[0]])
    return _repeated(lowering, still)


def _repeated(lowering: Lowering, value: Value) -> Value:
    """One value per utterance, repeated for every frame."""
    operand = Operand(value.rows.reshape(-1), ONE)
    return lowering._emit("copy", (operand,), value.rows.shape, value.time, value.length)


@operator(_aten.select.int)
def _select(lowering: Lowering, value: Value, axis: int, index: int, *, node: fx.Node) -> Value:
    axis %= value.rows.ndim
    if axis == value.time:
        raise UnsupportedError("takes a single frame")
    time = value.time
    if time is not None and axis < time:
        time -= 1
    return value.with_rows(np.take(value.rows, index, axis), time)


@operator(_aten.slice.Tensor, on_segments=True)
def _slice(
    lowering: Lowering,
    value: Value,
    axis: int = 0,
    start: Any = None,
    end: Any = None,
    step: int = 1,
    *,
    node: fx.Node,
) -> Value:
    axis %= value.rows.ndim
    if axis != value.time:
        window = slice(start, None if end is None or end >= sys.maxsize else end, step)
        return value.with_rows(value.rows[(slice(None),) * axis + (window,)], value.time)
    length = shape_of(node)[axis]
    first = 0 if start is None else start
    if value.segment:
        return _segment_means(lowering, value, length, first, step)
    if not isinstance(first, int) or first < 0:
        raise UnsupportedError("counts frames from the end")
    if length == value.length:
        return value
    rows = lowering.gather(value.rows, value.length, length, stride=step, offset=first)
    return Value(rows, value.time, length)


def _segment_means(
    lowering: Lowering, value: Value, length: sympy.Expr, first: Any, step: int
) -> Value:
    (raw,) = {lowering.steps.buffers[each].length for each in np.unique(buffers_of(value.rows))}
    if first or step != 1 or not value.joined or length != raw:
        raise UnsupportedError("uses the means of segments in an unknown way")
    operand = Operand(value.rows.reshape(-1), length)
    return lowering._emit(
        "segment_mean",
        (operand,),
        value.rows.shape,
        value.time,
        length,
        segment=value.segment,
    )


@operator(_aten.split_with_sizes.default)
def _split(
    lowering: Lowering, value: Value, sizes: list[int], axis: int = 0, *, node: fx.Node
) -> list[Value]:
    axis %= value.rows.ndim
    if axis == value.time:
        raise UnsupportedError("splits time")
    parts = np.split(value.rows, np.cumsum(sizes)[:-1], axis)
    return [value.with_rows(part, value.time) for part in parts]


@operator(_aten.cat.default)
def _cat(lowering: Lowering, values: list[Any], axis: int = 0, *, node: fx.Node) -> Value:
    if not all(isinstance(each, Value) for each in values):
        raise UnsupportedError("joins activations and constants")
    axis %= values[0].rows.ndim
    first = values[0]
    if any(axis == each.time for each in values):
        raise UnsupportedError("joins along time")
    if any((each.time, each.length) != (first.time, first.length) for each in values):
        raise UnsupportedError("joins tensors of different lengths")
    return first.with_rows(np.concatenate([each.rows for each in values], axis), first.time)


@operator(_aten.index_select.default)
def _index_select(
    lowering: Lowering, value: Value, axis: int, index: torch.Tensor, *, node: fx.Node
) -> Value:
    axis %= value.rows.ndim
    if axis == value.time:
        raise UnsupportedError("picks frames")
    return value.with_rows(np.take(value.rows, index.numpy(), axis), value.time)


@operator(
    _aten.constant_pad_nd.default,
    _aten.reflection_pad1d.default,
    _aten.replication_pad1d.default,
)
def _pad(
    lowering: Lowering, value: Value, widths: list[int], fill: float = 0, *, node: fx.Node
) -> Value:
    axis = value.rows.ndim - 1
    padded = [place // 2 for place, width in enumerate(widths) if width]
    if len({*padded}) == 1 and not fill and axis - padded[0] != value.time and min(widths) == 0:
        return _with_zeros(lowering, value, axis - padded[0], widths[2 * padded[0] :][:2])
    if fill or axis != value.time or any(widths[2:]) or min(widths) < 0:
        raise UnsupportedError("pads something else than time, or not with zeros")
    kinds = {
        _aten.constant_pad_nd.default: "zero",
        _aten.reflection_pad1d.default: "reflect",
        _aten.replication_pad1d.default: "replicate",
    }
    padding = kinds[node.target]  # type: ignore[index]
    if padding == "reflect":
        least = lowering.steps.least
        least[value.length] = max(least.get(value.length, 1), max(widths[:2]) + 1)
    length = shape_of(node)[axis]
    rows = lowering.gather(value.rows, value.length, length, offset=-widths[0], padding=padding)
    return replace(value, rows=rows, length=length)


def _with_zeros(lowering: Lowering, value: Value, axis: int, widths: list[int]) -> Value:
    """Rows of zeros before and after others."""
    one = value.with_rows(value.rows.take([0], axis), value.time)
    nothing = lowering.affine(one, torch.zeros(1), torch.zeros(1), axis).rows
    before, after = (np.repeat(nothing, width, axis) for width in widths)
    return value.with_rows(np.concatenate([before, value.rows, after], axis), value.time)
