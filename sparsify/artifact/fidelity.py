"""Whether a file of ours holds the network that it says it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

from sparsify.arrays import Array
from sparsify.artifact.seals import altered, source_digest
from sparsify.errors import SparsifyError
from sparsify.models.names import COUNTER
from sparsify.models.outlines import Outline, outline_of
from sparsify.models.registry import Architecture
from sparsify.sparsity.selection import EVERYTHING, Selection
from sparsify.sparsity.table import Kind, SparsityTable


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Within it, what is wrong with a network is said of the file that describes it.

    Raises:
        SparsifyError: With the path, whatever was raised without.
    """
    try:
        yield
    except SparsifyError as error:
        raise SparsifyError(f"'{path}': {error}") from error


def outline_in(
    path: Path, architecture: Architecture, selection: Selection = EVERYTHING
) -> Outline:
    """The network of a registered name without values, as a file describes it.

    Raises:
        SparsifyError: There is no such network, or it has nothing that the selection names.
    """
    with said_of(path):
        return outline_of(architecture, selection)


def check_table(table: SparsityTable, outline: Outline, path: Path) -> None:
    """Refuses what a file says of its parameters where the network that it names says otherwise.

    Args:
        table: What the file says.
        outline: The network.
        path: The file.

    Raises:
        SparsifyError: It does.
    """
    kinds = outline.kinds
    told = {layer.name: layer for layer in table.layers}
    for name in told.keys() | {name for name, kind in kinds.items() if kind.prunable}:
        layer = told.get(name)
        found = layer and (layer.shape, Kind(layer.type, layer.prunable))
        if name not in kinds or found != (outline.state[name].shape, kinds[name]):
            raise SparsifyError(
                f"'{path}' is damaged: what it says of '{name}' does not fit its network"
            )


def lost(state: Mapping[str, Array], architecture: Architecture) -> Iterator[str]:
    """Sentences about weights of the network that a file was made from and that it has no more.

    They may have been renamed or transposed; what was merged or folded has another size.

    Args:
        state: The tensors in the file.
        architecture: That network.
    """
    if architecture.is_code:
        return
    try:
        outline = outline_of(architecture)
    except SparsifyError as error:
        yield f"which weights sparsify wrote is not known: {error}"
        return
    weights = {
        n: prod(outline.state[n].shape) for n, kind in outline.kinds.items() if kind.prunable
    }
    sizes = Counter(weights.values())
    sizes.subtract(array.size for array in state.values() if array.ndim > 1)
    for name, size in weights.items():
        if sizes[size] > 0 and name not in state:
            yield f"'{name}', which sparsify wrote, is not found"


def is_intact_unsealed(
    state: Mapping[str, Array], architecture: Architecture, metadata: Mapping[str, str], path: Path
) -> bool:
    """Whether a file of ours without a seal, from an earlier version, is as it was written.

    Args:
        state: The tensors in the file.
        architecture: The network that it names.
        metadata: What else it says.
        path: The file.

    Raises:
        SparsifyError: It is damaged.
    """
    digest = metadata.get("source_digest")
    if architecture.is_code or digest is None:
        return True
    expected = outline_in(path, architecture).state
    own = {name: tensor for name, tensor in state.items() if name in expected}
    if source_digest(own) == digest:
        return True
    if all(
        name.endswith(COUNTER) or (name in own and entry == (own[name].shape, own[name].dtype.name))
        for name, entry in expected.items()
    ):
        raise altered(path)
    return False
