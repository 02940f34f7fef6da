"""What kinds of operators there are, as far as channels are concerned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_aten = torch.ops.aten

VIEWS = {
    _aten.reshape.default,
    _aten.permute.default,
    _aten.transpose.int,
    _aten.t.default,
    _aten.unsqueeze.default,
    _aten.squeeze.default,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
    _aten.expand.default,
    _aten.slice.Tensor,
    _aten.select.int,
    _aten.split.Tensor,
    _aten.split_with_sizes.default,
    _aten.unbind.int,
    _aten.cat.default,
    _aten.stack.default,
    _aten.clone.default,
    _aten.alias.default,
    _aten.detach.default,
    _aten.flip.default,
    _aten.repeat.default,
    _aten.index_select.default,
    _aten.constant_pad_nd.default,
    _aten.reflection_pad1d.default,
    _aten.reflection_pad2d.default,
    _aten.replication_pad1d.default,
    _aten.replication_pad2d.default,
}
"""Operators that only put elements elsewhere."""

FREE = {
    _aten.view.default: _aten.reshape.default,
    _aten._unsafe_view.default: _aten.reshape.default,
}
"""Operators that count on how a tensor lies in memory, and those that do the same anyhow."""

PADS = {_aten.constant_pad_nd.default}
"""Those of them that add elements."""

INDEXED = {_aten.index_select.default}
"""Those whose second argument says which elements."""

REDUCTIONS = {
    _aten.mean.dim,
    _aten.sum.dim_IntList,
    _aten.amax.default,
    _aten.amin.default,
    _aten.var.correction,
    _aten.std.correction,
}
"""Operators that make one element of several; their second argument says along which axes."""

SOFTMAX = _aten._softmax.default
CONVOLUTION = _aten.convolution.default
BATCH_NORMS = {
    _aten.native_batch_norm.default,
    _aten._native_batch_norm_legit_no_training.default,
}
MATRIX, AFFINE = _aten.mm.default, _aten.addmm.default
PRODUCTS = {_aten.mul.Tensor}
SUM, TOTAL = _aten.add.Tensor, _aten.sum.dim_IntList
CASTS = {_aten._to_copy.default}
SIZED = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Layers whose code counts on the sizes of their weights."""


@dataclass(frozen=True)
class Opaque:
    """In place of an operator that is not followed: what it makes depends on all that it is given.

    Attributes:
        name: Of what it stands for.
        dtypes: Of what it makes.
    """

    name: str
    dtypes: tuple[torch.dtype, ...]
    tags: tuple[torch.Tag, ...] = ()

    def __str__(self) -> str:
        return self.name


def is_pointwise(op: Any) -> bool:
    """Whether each element of the result depends on the elements of its place alone."""
    return torch.Tag.pointwise in op.tags or op in CASTS


def axes_of(args: tuple[Any, ...], kwargs: dict[str, Any], dims: int) -> list[int]:
    """The axes that a reduction goes along."""
    given = args[1] if len(args) > 1 else kwargs.get("dim")
    axes = range(dims) if given is None or given == [] else given
    return [axis % dims for axis in ([axes] if isinstance(axes, int) else axes)]
