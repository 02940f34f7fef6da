"""Operators that compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from sparsify.exporters.native.operators import Lowering, UnsupportedError, operator, shape_of
from sparsify.exporters.native.steps import (
    Conv,
    Length,
    Value,
    buffers_of,
    indices_of,
    row_ids,
)

_aten = torch.ops.aten

_ELEMENTWISE = {
    _aten.relu.default: "relu",
    _aten.sigmoid.default: "sigmoid",
    _aten.tanh.default: "tanh",
    _aten.exp.default: "exp",
    _aten.log.default: "log",
    _aten.sqrt.default: "sqrt",
    _aten.abs.default: "abs",
    _aten.mul.Tensor: "multiply",
    _aten.mul.Scalar: "multiply",
    _aten.div.Tensor: "divide",
    _aten.div.Scalar: "divide",
    _aten.maximum.default: "maximum",
    _aten.minimum.default: "minimum",
}


@operator(*_ELEMENTWISE)
def _elementwise(lowering: Lowering, *operands: Any, node: fx.Node) -> Value:
    return lowering.rowwise(_ELEMENTWISE[node.target], *operands)  # type: ignore[index]


@operator(_aten.add.Tensor, _aten.add.Scalar, _aten.sub.Tensor, _aten.sub.Scalar)
def _add(lowering: Lowering, a: Any, b: Any, alpha: float = 1, *, node: fx.Node) -> Value:
    subtracts = node.target in (_aten.sub.Tensor, _aten.sub.Scalar)
    scaled = b if alpha == 1 else lowering.rowwise("multiply", b, alpha)
    return lowering.rowwise("subtract" if subtracts else "add", a, scaled)


@operator(_aten.neg.default)
def _neg(lowering: Lowering, value: Value, *, node: fx.Node) -> Value:
    return lowering.rowwise("multiply", value, -1.0)


@operator(_aten.reciprocal.default)
def _reciprocal(lowering: Lowering, value: Value, *, node: fx.Node) -> Value:
    return lowering.rowwise("divide", 1.0, value)


@operator(_aten.rsqrt.default)
def _rsqrt(lowering: Lowering, value: Value, *, node: fx.Node) -> Value:
    return lowering.rowwise("divide", 1.0, lowering.rowwise("sqrt", value))


@operator(_aten.pow.Tensor_Scalar)
def _pow(lowering: Lowering, value: Value, exponent: float, *, node: fx.Node) -> Value:
    if exponent == 0.5:
        return lowering.rowwise("sqrt", value)
    if exponent == -0.5:
        return lowering.rowwise("divide", 1.0, lowering.rowwise("sqrt", value))
    if exponent not in (1, 2, 3):
        raise UnsupportedError(f"has the exponent {exponent}")
    power = value
    for _ in range(int(exponent) - 1):
        power = lowering.rowwise("multiply", power, value)
    return power


@operator(_aten.clamp.default, _aten.hardtanh.default)
def _clamp(
    lowering: Lowering,
    value: Value,
    low: float | None = None,
    high: float | None = None,
    *,
    node: fx.Node,
) -> Value:
    if node.target is _aten.hardtanh.default:
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    clamped = value if low is None else lowering.rowwise("maximum", value, low)
    return clamped if high is None else lowering.rowwise("minimum", clamped, high)


@operator(_aten.leaky_relu.default)
def _leaky_relu(lowering: Lowering, value: Value, slope: float = 0.01, *, node: fx.Node) -> Value:
    below = lowering.rowwise("multiply", lowering.rowwise("minimum", value, 0.0), slope)
    return lowering.rowwise("add", lowering.rowwise("relu", value), below)


@operator(_aten._native_batch_norm_legit_no_training.default)
def _batch_norm(
    lowering: Lowering,
    value: Value,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
    *,
    node: fx.Node,
) -> tuple[Value]:
    scale = (variance.double() + eps).rsqrt()
    if weight is not None:
        scale = scale * weight.double()
    shift = -mean.double() * scale
    if bias is not None:
        shift = shift + bias.double()
    return (lowering.affine(value, scale, shift, axis=1),)


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
    mean = node.target is _aten.mean.dim
    reduced = value
    if value.time in wanted:
        reduced = lowering.over_time("sum", value, keep=True)
        if mean:
            reduced = lowering.rowwise("divide", reduced, value.length)
    others = [axis for axis in wanted if axis != value.time]
    if others:
        reduced = _weighted_sum(lowering, reduced, others, mean=mean)
    if keep:
        return reduced
    time = reduced.time
    if time is not None:
        time -= sum(axis < time for axis in wanted)
    return reduced.with_rows(reduced.rows.squeeze(tuple(wanted)), time)


def _weighted_sum(lowering: Lowering, value: Value, axes: list[int], *, mean: bool) -> Value:
    """Sums over other axes than time: a matrix of equal numbers."""
    order = [axis for axis in range(value.rows.ndim) if axis not in axes] + axes
    size = int(np.prod([value.rows.shape[axis] for axis in axes]))
    rows = value.rows.transpose(order).reshape(-1, size)
    weight = np.kron(np.eye(len(rows)), np.full((1, size), 1 / size if mean else 1.0))
    shape = [1 if axis in axes else each for axis, each in enumerate(value.rows.shape)]
    summed = _matrix(lowering, weight, None, rows.reshape(-1), value.length)
    return value.with_rows(summed.reshape(shape), value.time)


@operator(_aten.amax.default, _aten.amin.default)
def _extreme(
    lowering: Lowering, value: Value, axes: list[int], keep: bool = False, *, node: fx.Node
) -> Value:
    if _axes(value, axes) != [value.time]:
        raise UnsupportedError("does not go over time alone")
    code = "max_over_time" if node.target is _aten.amax.default else "min_over_time"
    return lowering.over_time(code, value, keep=keep)


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
    if _axes(value, axes) != [value.time]:
        raise UnsupportedError("does not go over time alone")
    total = lowering.over_time("sum", value, keep=True)
    centred = lowering.rowwise("subtract", value, lowering.rowwise("divide", total, value.length))
    squares = lowering.rowwise("multiply", centred, centred)
    correction = 1 if correction is None else correction
    if correction != int(correction):
        raise UnsupportedError(f"has the correction {correction}")
    count = sympy.Max(0, value.length - int(correction))
    summed = lowering.over_time("sum", squares, keep=keepdim)
    return lowering.rowwise("divide", summed, count)


@operator(_aten._softmax.default)
def _softmax(lowering: Lowering, value: Value, axis: int, half: bool, *, node: fx.Node) -> Value:
    if axis % value.rows.ndim != value.time:
        raise UnsupportedError("does not go over time")
    highest = lowering.over_time("max_over_time", value, keep=True)
    powers = lowering.rowwise("exp", lowering.rowwise("subtract", value, highest))
    total = lowering.over_time("sum", powers, keep=True)
    return lowering.rowwise("multiply", powers, lowering.rowwise("divide", 1.0, total))


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
    """Means of segments, which are then repeated for their frames (CAM++)."""
    segment = kernel[-1]
    plain = (
        value.time == value.rows.ndim - 1
        and list(stride or kernel) == list(kernel)
        and divisor is None
        and not any(padding or [])
        and ceil_mode
        and all(each == 1 for each in kernel[:-1])
    )
    if not plain:
        raise UnsupportedError("does not take the means of whole segments of time")
    return Value(value.rows, value.time, shape_of(node)[value.time], segment)  # type: ignore[index]


@operator(_aten.addmm.default)
def _addmm(
    lowering: Lowering, bias: Any, value: Value, weight: Tensor, *, node: fx.Node, **scales: Any
) -> Value:
    if scales:
        raise UnsupportedError("scales its terms")
    return _linear(lowering, value, weight, bias)


@operator(_aten.mm.default)
def _mm(lowering: Lowering, value: Value, weight: Tensor, *, node: fx.Node) -> Value:
    return _linear(lowering, value, weight, None)


def _linear(lowering: Lowering, value: Any, weight: Any, bias: Any) -> Value:
    if not isinstance(value, Value) or not isinstance(weight, Tensor):
        raise UnsupportedError("multiplies activations with each other")
    shape = value.rows.shape
    if value.time == len(shape) - 1 or int(np.prod(shape[:-1])) != 1:
        raise UnsupportedError("does not go over the channels alone")
    plain = isinstance(bias, Tensor) and bias.shape == weight.shape[1:]
    rows = _matrix(
        lowering,
        weight.T.to(torch.float32).numpy(),
        bias.to(torch.float32).numpy() if plain else None,
        value.rows.reshape(-1),
        value.length,
    )
    product = value.with_rows(rows.reshape(*shape[:-1], -1), value.time)
    return product if plain or bias is None else lowering.rowwise("add", product, bias)


def _matrix(
    lowering: Lowering,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    rows: NDArray[np.int64],
    length: Length,
) -> NDArray[np.int64]:
    """Rows that a matrix makes of others, frame by frame."""
    outputs = len(weight)
    target = lowering.steps.buffer(outputs, 1, length)
    lowering.steps.steps.append(
        Conv(
            weight.astype(np.float32),
            np.zeros(outputs, np.float32) if bias is None else bias.astype(np.float32),
            target,
            buffers_of(rows),
            indices_of(rows),
            np.zeros(len(rows), np.int64),
            0,
            lowering.layer,
        )
    )
    return row_ids(target, np.arange(outputs))


def _axes(value: Value, axes: list[int] | None) -> list[int]:
    dims = value.rows.ndim
    return list(range(dims)) if not axes else sorted(axis % dims for axis in axes)
