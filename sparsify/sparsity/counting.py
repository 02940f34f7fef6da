"""Counts the zeros of networks and of tensors, for the table of their layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsify.sparsity.prunable import prunable_parameters, prunable_tensor
from sparsify.sparsity.table import LayerSparsity, SparsityTable

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


class Kind(NamedTuple):
    """What a parameter is: the class of the layer that owns it, and whether it may be pruned."""

    type: str
    prunable: bool


def parameter_kinds(
    model: nn.Module, ignore: Sequence[str] = (), include: Sequence[str] = ()
) -> dict[str, Kind]:
    """The kind of every trainable parameter of a network, by name.

    Args:
        model: The embedding network, without its training head.
        ignore: Glob patterns of parameter names that are protected from pruning.
        include: Glob patterns of parameter names that are pruned as well.
    """
    prunable = {id(p) for p in prunable_parameters(model, ignore, include).values()}
    owners = {
        id(parameter): type(module).__name__
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
    }
    return {
        name: Kind(owners[id(parameter)], id(parameter) in prunable)
        for name, parameter in model.named_parameters()
    }


def sparsity_table(
    model: nn.Module, ignore: Sequence[str] = (), include: Sequence[str] = ()
) -> SparsityTable:
    """Counts the exact zeros of every trainable parameter of a network.

    Args:
        model: The embedding network, without its training head.
        ignore: Glob patterns of parameter names that are protected from pruning.
        include: Glob patterns of parameter names that are pruned as well.
    """
    return table_of(parameter_kinds(model, ignore, include), dict(model.named_parameters()))


def table_of(kinds: Mapping[str, Kind], tensors: Mapping[str, Tensor]) -> SparsityTable:
    """Counts the exact zeros of tensors of which each kind is known.

    Args:
        kinds: Of what is counted, by name.
        tensors: Tensors by name, others among them.
    """
    return SparsityTable(
        tuple(
            LayerSparsity(
                name=name,
                type=kind.type,
                shape=tuple(tensors[name].shape),
                parameters=tensors[name].numel(),
                nonzero=int(torch.count_nonzero(tensors[name].detach())),
                prunable=kind.prunable,
            )
            for name, kind in kinds.items()
        )
    )


def table_from_tensors(tensors: Mapping[str, Tensor], types: Mapping[str, str]) -> SparsityTable:
    """Counts the exact zeros of the float tensors of a file whose network is not known.

    Args:
        tensors: Tensors by name; batch-norm statistics are left out by their names.
        types: What uses each tensor, by name; unknown where missing.
    """
    kinds = {
        name: Kind(types.get(name, ""), prunable_tensor(tensor))
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not name.endswith(_BUFFERS)
    }
    return table_of(kinds, tensors)
