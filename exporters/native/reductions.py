"""Operators that make one value of many."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import sympy
import torch
from torch import fx

from sparsify.exporters.native.buffers import Length
from sparsify.exporters.native.convolution import matrix
from sparsify.exporters.native.operators import Lowering
from sparsify.exporters.native.steps import Value
from sparsify.exporters.native.table import UnsupportedError, operator

_aten = torch.ops.aten

_FEW = 8  # branches, whose sum is less work than a matrix
_EXTREMES = {
    _aten.amax.default: ("max_over_time", "maximum"),
    _aten.amin.default: ("min_over_time", "minimum"),
}


@operator(_aten.mean.dim, _aten.sum.dim_IntList)
def _mean(
    lowering: Lowering,
    value: Value,
    axes: list[int] | None,
    keep: bool = False,
    *,
    node: fx.Node,
    **options: Any,
) -> Value:
    wanted = _axes(value, axes)
    return _kept(total(lowering, value, wanted, mean=node.target is _aten.mean.dim), wanted, keep)


def total(lowering: Lowering, value: Value, axes: list[int], *, mean: bool = False) -> Value:
    """A sum or mean along axes, which are kept, of size 1."""
    reduced = value
    if value.time in axes:
        reduced = lowering.over_time("sum", value, keep=True)
        if mean:
            reduced = lowering.rowwise("divide", reduced, value.length)
    others = [axis for axis in axes if value.rows.shape[axis] > 1]
    return _weighted_sum(lowering, reduced, others, mean=mean) if others else reduced


def _weighted_sum(lowering: Lowering, value: Value, axes: list[int], *, mean: bool) -> Value:
    """Sums over other axes than time: a matrix of equal numbers, unless they are of few."""
    order = [axis for axis in range(value.rows.ndim) if axis not in axes] + axes
    size = int(np.prod([value.rows.shape[axis] for axis in axes]))
    if size <= _FEW:
        return _added(lowering, value, axes, 1 / size if mean else 1.0)
    rows = value.rows.transpose(order).reshape(-1, size)
    weight = np.kron(np.eye(len(rows)), np.full((1, size), 1 / size if mean else 1.0))
    shape = [1 if axis in axes else each for axis, each in enumerate(value.rows.shape)]
    summed = matrix(lowering, weight, None, rows.reshape(-1), value.length)
    return value.with_rows(summed.reshape(shape), value.time)


def _added(lowering: Lowering, value: Value, axes: list[int], factor: float) -> Value:
    for axis in axes:
        parts = [
            value.with_rows(each, value.time)
            for each in np.split(value.rows, value.rows.shape[axis], axis)
        ]
        value = reduce(lambda a, b: lowering.rowwise("add", a, b), parts)
    return value if factor == 1 else lowering.rowwise("multiply", value, factor)


@operator(*_EXTREMES)
def _extreme(
    lowering: Lowering, value: Value, axes: list[int], keep: bool = False, *, node: fx.Node
) -> Value:
    wanted = _axes(value, axes)
    codes = _EXTREMES[node.target]  # type: ignore[index]
    return _kept(_most(lowering, value, wanted, *codes), wanted, keep)


def _most(
    lowering: Lowering,
    value: Value,
    axes: list[int],
    over_time: str = "max_over_time",
    of_two: str = "maximum",
) -> Value:
    """The highest or lowest along axes, which are kept, of size 1."""
    for axis in axes:
        if axis == value.time:
            value = lowering.over_time(over_time, value, keep=True)
        while (size := value.rows.shape[axis]) > 1:
            half = -(-size // 2)  # of an odd number, one is in both halves
            halves = (np.take(value.rows, range(i, i + half), axis) for i in (0, size - half))
            value = lowering.rowwise(of_two, *(value.with_rows(e, value.time) for e in halves))
    return value


@operator(_aten.var.correction)
def _var(
    lowering: Lowering,
    value: Value,
    axes: list[int] | None = None,
    *,
    correction: float | None = 1,
    keepdim: bool = False,
    node: fx.Node,
) -> Value:
    correction = 1 if correction is None else correction
    if correction != int(correction):
        raise UnsupportedError(f"has the correction {correction}")
    wanted = _axes(value, axes)
    mean = total(lowering, value, wanted, mean=True)
    centred = lowering.rowwise("subtract", value, mean)
    squares = lowering.rowwise("multiply", centred, centred)
    count = sympy.Max(0, _count(value, wanted) - int(correction))
    summed = total(lowering, squares, wanted)
    return _kept(lowering.rowwise("divide", summed, count), wanted, keepdim)


def _count(value: Value, axes: list[int]) -> Length:
    """How many values there are along axes."""
    rows = int(np.prod([value.rows.shape[axis] for axis in axes]))
    return rows * value.length if value.time in axes else sympy.Integer(rows)


@operator(_aten._softmax.default)
def _softmax(lowering: Lowering, value: Value, axis: int, half: bool, *, node: fx.Node) -> Value:
    axes = _axes(value, [axis])
    centred = lowering.rowwise("subtract", value, _most(lowering, value, axes))
    powers = lowering.rowwise("exp", centred)
    summed = total(lowering, powers, axes)
    return lowering.rowwise("multiply", powers, lowering.rowwise("divide", 1.0, summed))


def _axes(value: Value, axes: list[int] | None) -> list[int]:
    dims = value.rows.ndim
    return list(range(dims)) if not axes else sorted(axis % dims for axis in axes)


def _kept(value: Value, axes: list[int], keep: bool) -> Value:
    """Without the axes, unless they are kept."""
    if keep:
        return value
    time = value.time
    if time is not None:
        time -= sum(axis < time for axis in axes)
    return value.with_rows(value.rows.squeeze(tuple(axes)), time)
