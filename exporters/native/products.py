"""Products of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from sparsify.exporters.native.attention import UNKNOWN, Scores, attend, products
from sparsify.exporters.native.convolution import matrix
from sparsify.exporters.native.operators import Lowering
from sparsify.exporters.native.steps import Value
from sparsify.exporters.native.table import ON_SCORES, UnsupportedError, operator

_aten = torch.ops.aten


@operator(_aten.addmm.default)
def _addmm(lowering: Lowering, bias: Any, a: Any, b: Any, *, node: fx.Node, **scales: Any) -> Value:
    if scales:
        raise UnsupportedError("scales its terms")
    if isinstance(bias, Tensor) and isinstance(b, Tensor) and bias.shape == b.shape[1:]:
        return _linear(lowering, a, b, bias)
    product = _product(lowering, a, b)
    if isinstance(product, Scores):
        raise UNKNOWN
    return lowering.rowwise("add", product, bias)


@operator(_aten.mm.default, _aten.bmm.default)
@operator(_aten.mm.default, _aten.bmm.default, table=ON_SCORES)
def _matmul(lowering: Lowering, a: Any, b: Any, *, node: fx.Node) -> Value | Scores:
    return _product(lowering, a, b)


def _product(lowering: Lowering, a: Any, b: Any) -> Value | Scores:
    if isinstance(a, Scores):
        return attend(lowering, a, b)
    if isinstance(b, Scores):
        turned = b.permuted([*range(b.dims - 2), b.dims - 1, b.dims - 2])
        return _turned(attend(lowering, turned, _turned(a)))
    if isinstance(b, Tensor):
        assert isinstance(a, Value)
        return _linear(lowering, a, b)
    if isinstance(a, Tensor):
        return _turned(_linear(lowering, _turned(b), a.mT))
    dims = a.rows.ndim
    if (a.time, b.time) == (dims - 2, dims - 1):
        return products(a, b)
    if (a.time, b.time) != (dims - 1, dims - 2):
        raise UnsupportedError("multiplies frames or channels with each other in an unknown way")
    left = a.with_rows(np.expand_dims(a.rows, -1), a.time)
    right = b.with_rows(np.expand_dims(b.rows, -3), dims - 1)
    return lowering.over_time("sum", lowering.rowwise("multiply", left, right), keep=False)


def _turned(value: Value) -> Value:
    last = value.rows.ndim - 1
    time = {last: last - 1, last - 1: last}.get(value.time, value.time)  # type: ignore[arg-type]
    return value.with_rows(value.rows.swapaxes(-1, -2), time)


def _linear(lowering: Lowering, value: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    """Each row of activations times a matrix that is known."""
    shape = value.rows.shape
    if value.time == len(shape) - 1:
        raise UnsupportedError("does not go over the channels alone")
    weights = weight.to(torch.float32).reshape(-1, *weight.shape[-2:]).mT.numpy()
    shift = None if bias is None else bias.to(torch.float32).numpy()
    rows = [
        matrix(lowering, each, shift, row, value.length)
        for each, group in zip(
            weights, value.rows.reshape(len(weights), -1, shape[-1]), strict=True
        )
        for row in group
    ]
    return value.with_rows(np.stack(rows).reshape(*shape[:-1], -1), value.time)
