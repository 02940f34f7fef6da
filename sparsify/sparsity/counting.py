"""Counts the zeros of networks, for the table of their layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import Kind, SparsityTable
from sparsify.sparsity.zeros import table_of
from sparsify.tensors import arrays_of


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
    return table_of(
        parameter_kinds(model, ignore, include), arrays_of(dict(model.named_parameters()))
    )
