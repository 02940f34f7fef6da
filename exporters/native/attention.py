"""Attention: values of other frames, weighed by the softmax of products of frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from sparsify.exporters.native.buffers import Length, Rows, row_ids
from sparsify.exporters.native.operators import Lowering
from sparsify.exporters.native.shapes import shape_of
from sparsify.exporters.native.steps import Attention, Value
from sparsify.exporters.native.table import ON_SCORES, UnsupportedError, operator

_aten = torch.ops.aten
UNKNOWN = UnsupportedError("uses products of frames in an unknown way")


@dataclass(frozen=True)
class Scores:
    """The products of each frame with each other one, which are not yet computed.

    Attributes:
        queries, keys: Rows of what is multiplied, `(…, width)`: before the width, the shape that
            PyTorch's tensor has, both time axes having the size 1.
        query_axis, key_axis: These axes.
        query_length, key_length: Frames along them.
        scale: By which the products are multiplied.
        shared: Whether their softmax over the keys is meant.
    """

    queries: Rows
    keys: Rows
    query_axis: int
    key_axis: int
    query_length: Length
    key_length: Length
    scale: float = 1.0
    shared: bool = False

    @property
    def dims(self) -> int:
        """How many axes the products have."""
        return self.queries.ndim - 1

    def permuted(self, order: list[int]) -> Scores:
        """With its axes in another order."""
        queries, keys = (rows.transpose([*order, self.dims]) for rows in (self.queries, self.keys))
        axes = order.index(self.query_axis), order.index(self.key_axis)
        return replace(self, queries=queries, keys=keys, query_axis=axes[0], key_axis=axes[1])

    def over_queries(self) -> Scores:
        """The same with queries as keys."""
        return Scores(
            self.keys,
            self.queries,
            self.key_axis,
            self.query_axis,
            self.key_length,
            self.query_length,
            self.scale,
        )


def products(a: Value, b: Value) -> Scores:
    """The products of frames `(…, T, width)` with others `(…, width, T)`."""
    dims = a.rows.ndim
    queries, keys = (np.expand_dims(rows, -2) for rows in (a.rows, b.rows.swapaxes(-1, -2)))
    return Scores(queries, keys, dims - 2, dims - 1, a.length, b.length)


def attend(lowering: Lowering, scores: Any, value: Any) -> Value:
    """Means of values `(…, T, width)`, weighed by shares `(…, T, T)`."""
    if not (isinstance(scores, Scores) and scores.shared and isinstance(value, Value)):
        raise UNKNOWN
    dims = scores.dims
    axes = (scores.query_axis, scores.key_axis, value.time)
    if axes != (dims - 2, dims - 1, dims - 2) or value.length != scores.key_length:
        raise UNKNOWN
    heads, width = int(np.prod(value.rows.shape[:-2])), value.rows.shape[-1]
    target = lowering.buffer(heads * width, 1, scores.query_length)
    rows = row_ids(target, np.arange(heads * width))
    queries, keys, values = (
        each.reshape(heads, -1) for each in (scores.queries, scores.keys, value.rows)
    )
    lowering.steps.steps.append(
        Attention(queries, keys, values, scores.key_length, target, rows, scores.scale)
    )
    return Value(rows.reshape(value.rows.shape), dims - 2, scores.query_length)


@operator(_aten.clone.default, _aten.alias.default, table=ON_SCORES)
def _same(lowering: Lowering, scores: Scores, *, node: fx.Node, **options: Any) -> Scores:
    return scores


@operator(_aten.permute.default, table=ON_SCORES)
def _permute(lowering: Lowering, scores: Scores, axes: list[int], *, node: fx.Node) -> Scores:
    return scores.permuted([axis % scores.dims for axis in axes])


@operator(
    _aten.view.default,
    _aten.unsqueeze.default,
    _aten.squeeze.dims,
    _aten.expand.default,
    table=ON_SCORES,
)
def _view(lowering: Lowering, scores: Scores, shape: Any, *, node: fx.Node) -> Scores:
    """Whatever leaves the products in their order."""
    wanted = shape_of(node)
    moving = [axis for axis, size in enumerate(wanted) if not size.is_number]
    axes = sorted((scores.query_axis, scores.key_axis))
    lengths = {scores.query_axis: scores.query_length, scores.key_axis: scores.key_length}
    if [wanted[axis] for axis in moving] != [lengths[axis] for axis in axes]:
        raise UNKNOWN
    sizes = [1 if axis in moving else int(size) for axis, size in enumerate(wanted)]
    spread = node.target is _aten.expand.default
    if not spread:
        before = [int(np.prod(scores.queries.shape[:axis])) for axis in axes]
        if [int(np.prod(sizes[:axis])) for axis in moving] != before:
            raise UNKNOWN
    change = np.broadcast_to if spread else np.reshape
    queries, keys = (
        change(rows, (*sizes, rows.shape[-1])) for rows in (scores.queries, scores.keys)
    )
    query_axis, key_axis = (moving[axes.index(a)] for a in (scores.query_axis, scores.key_axis))
    return replace(scores, queries=queries, keys=keys, query_axis=query_axis, key_axis=key_axis)


@operator(_aten.mul.Tensor, _aten.mul.Scalar, table=ON_SCORES)
def _times(lowering: Lowering, a: Any, b: Any, *, node: fx.Node) -> Scores:
    scores, factor = (a, b) if isinstance(a, Scores) else (b, a)
    return _scaled(scores, _number(factor))


@operator(_aten.div.Tensor, _aten.div.Scalar, table=ON_SCORES)
def _divided(lowering: Lowering, scores: Any, divisor: Any, *, node: fx.Node) -> Scores:
    return _scaled(scores, 1 / _number(divisor))


@operator(_aten._softmax.default, table=ON_SCORES)
def _softmax(lowering: Lowering, scores: Scores, axis: int, half: bool, *, node: fx.Node) -> Scores:
    axis %= scores.dims
    if scores.shared or axis not in (scores.query_axis, scores.key_axis):
        raise UNKNOWN
    turned = scores if axis == scores.key_axis else scores.over_queries()
    return replace(turned, shared=True)


def _scaled(scores: Scores, factor: float) -> Scores:
    if scores.shared:
        raise UNKNOWN
    return replace(scores, scale=scores.scale * factor)


def _number(item: Any) -> float:
    single = isinstance(item, Tensor) and item.numel() == 1
    if not single and not isinstance(item, int | float):
        raise UNKNOWN
    return float(item)
