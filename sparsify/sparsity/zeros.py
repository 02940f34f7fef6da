"""Counts the zeros of arrays, for the table of layers; importing this module takes no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sparsify.arrays import Array, is_floating
from sparsify.sparsity.selection import looks_prunable
from sparsify.sparsity.table import Kind, LayerSparsity, SparsityTable
from sparsify.sparsity.work import Work

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def table_of(kinds: Mapping[str, Kind], arrays: Mapping[str, Array]) -> SparsityTable:
    """Counts the exact zeros of arrays of which each kind is known.

    Args:
        kinds: Of what is counted, by name.
        arrays: Arrays by name, others among them.
    """
    return SparsityTable(
        tuple(
            LayerSparsity(
                name=name,
                type=kind.type,
                shape=arrays[name].shape,
                parameters=arrays[name].size,
                nonzero=int(np.count_nonzero(arrays[name])),
                prunable=kind.prunable,
            )
            for name, kind in kinds.items()
        )
    )


def table_from_arrays(arrays: Mapping[str, Array], types: Mapping[str, str]) -> SparsityTable:
    """Counts the exact zeros of the float arrays of a file whose network is not known.

    What has two or more dimensions and more than 64 elements counts as prunable.

    Args:
        arrays: Arrays by name; batch-norm statistics are left out by their names.
        types: What uses each array, by name; unknown where missing.
    """
    kinds = {
        name: Kind(types.get(name, ""), looks_prunable(array.shape))
        for name, array in arrays.items()
        if is_floating(array) and not name.endswith(_BUFFERS)
    }
    return table_of(kinds, arrays)


def work_with(uses: Mapping[str, Array], arrays: Mapping[str, Array]) -> dict[str, Work]:
    """The multiply-adds of parameters with some values.

    Args:
        uses: How often each weight multiplies, see `sparsify.sparsity.uses.uses_of`, in arrays that
            broadcast to the weights.
        arrays: The values by name, others among them.
    """
    found = {}
    for name, counts in uses.items():
        each = np.broadcast_to(counts, arrays[name].shape)
        found[name] = Work(int(each.sum()), int(each[arrays[name] == 0].sum()))
    return found
