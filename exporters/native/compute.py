"""Operators that compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from sparsify.exporters.native.operators import Lowering
from sparsify.exporters.native.steps import (
    Value,
)
from sparsify.exporters.native.table import UnsupportedError, operator

_aten = torch.ops.aten

_ELEMENTWISE = {
    _aten.relu.default: "relu",
    _aten.sigmoid.default: "sigmoid",
    _aten.tanh.default: "tanh",
    _aten.exp.default: "exp",
    _aten.log.default: "log",
    _aten.sqrt.default: "sqrt",
    _aten.abs.default: "abs",
    _aten.erf.default: "erf",
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
