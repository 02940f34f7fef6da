"""Attention: values of other frames, weighed by the softmax of products of frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy
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
    """Products of each frame with each other one, `(*heads, queries, keys)`, not yet computed.

    Attributes:
        queries, keys: What is multiplied, `(*heads, width)`.
        query_length, key_length: Their frames.
        scale: By which the products are multiplied.
        shared: Whether their softmax over the keys is meant.
    """

    queries: Rows
    keys: Rows
    query_length: Length
    key_length: Length
    scale: float = 1.0
    shared: bool = False

    @property
    def heads(self) -> tuple[int, ...]:
        """All axes but the last two."""
        return self.queries.shape[:-1]

    def with_heads(self, heads: tuple[Any, ...], *, spread: bool = False) -> Scores:
        """The same with its heads in another shape, to which they are spread if they are fewer."""
        change = np.broadcast_to if spread else np.reshape
        queries, keys = (
            change(rows, (*(int(each) for each in heads), rows.shape[-1]))
            for rows in (self.queries, self.keys)
        )
        return replace(self, queries=queries, keys=keys)


def products(a: Value, b: Value) -> Scores:
    """The products of frames `(*heads, T, width)` with others `(*heads, width, T)`."""
    queries, keys = np.squeeze(a.rows, -2), np.squeeze(b.rows, -1)
    return Scores(queries, keys, a.length, b.length)


def attend(lowering: Lowering, scores: Any, value: Any) -> Value:
    """Means of values `(*heads, T, width)`, weighed by shares."""
    if not (isinstance(scores, Scores) and scores.shared and isinstance(value, Value)):
        raise UNKNOWN
    dims = len(scores.heads) + 2
    if value.time != dims - 2:
        raise UNKNOWN
    if value.length != scores.key_length:
        raise UnsupportedError("takes tensors of different lengths")
    heads, width = int(np.prod(scores.heads)), value.rows.shape[-1]
    target = lowering.buffer(heads * width, 1, scores.query_length)
    rows = row_ids(target, np.arange(heads * width))
    step = Attention(
        *(each.reshape(heads, -1) for each in (scores.queries, scores.keys, value.rows)),
        scores.key_length,
        target,
        rows,
        scores.scale,
    )
    lowering.steps.steps.append(step)
    return Value(rows.reshape(*scores.heads, 1, width), dims - 2, scores.query_length)


@operator(_aten.clone.default, _aten.alias.default, table=ON_SCORES)
def _same(lowering: Lowering, scores: Scores, *, node: fx.Node, **options: Any) -> Scores:
    return scores


@operator(_aten.view.default, _aten.expand.default, table=ON_SCORES)
def _heads(lowering: Lowering, scores: Scores, shape: Any, *, node: fx.Node) -> Scores:
    wanted = shape_of(node)
    frames = wanted[-2:] == (scores.query_length, scores.key_length)
    if not frames or not all(each.is_number for each in wanted[:-2]):
        raise UNKNOWN
    return scores.with_heads(wanted[:-2], spread=node.target is _aten.expand.default)


@operator(_aten.mul.Tensor, _aten.mul.Scalar, table=ON_SCORES)
def _times(lowering: Lowering, a: Any, b: Any, *, node: fx.Node) -> Scores:
    scores, factor = (a, b) if isinstance(a, Scores) else (b, a)
    return _scaled(scores, factor)


@operator(_aten.div.Tensor, _aten.div.Scalar, table=ON_SCORES)
def _divided(lowering: Lowering, scores: Any, divisor: Any, *, node: fx.Node) -> Scores:
    return _scaled(scores, 1 / _number(divisor))


@operator(_aten._softmax.default, table=ON_SCORES)
def _softmax(lowering: Lowering, scores: Scores, axis: int, half: bool, *, node: fx.Node) -> Scores:
    dims = len(scores.heads) + 2
    if axis % dims != dims - 1 or scores.shared:
        raise UNKNOWN
    return replace(scores, shared=True)


def _scaled(scores: Any, factor: Any) -> Scores:
    if not isinstance(scores, Scores) or scores.shared:
        raise UNKNOWN
    return replace(scores, scale=scores.scale * _number(factor))


def _number(item: Any) -> float:
    single = isinstance(item, Tensor) and item.numel() == 1
    if isinstance(item, sympy.Expr) or not (single or isinstance(item, int | float)):
        raise UNKNOWN
    return float(item)
