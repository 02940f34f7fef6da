"""Whether a file of ours holds the network that it says it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker

from sparsify.artifact.seals import altered, source_digest
from sparsify.errors import SparsifyError
from sparsify.models.recognition import COUNTER
from sparsify.models.registry import Architecture
from sparsify.sparsity.counting import Kind, parameter_kinds
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.selection import Selection
from sparsify.sparsity.table import SparsityTable

_FRAMES = 50  # that any network takes


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


def outline_in(path: Path, architecture: Architecture) -> nn.Module:
    """The network of a registered name without values, as a file describes it.

    Raises:
        SparsifyError: There is no such network.
    """
    with said_of(path):
        return architecture.outline()


def check_widths(model: nn.Module, bins: int, path: Path) -> None:
    """Refuses widths that do not fit together: they are a file's, not ours.

    Args:
        model: A network that became smaller, in eval mode.
        bins: Features of a frame.
        path: The file.

    Raises:
        SparsifyError: It does not compute; says in which layer.
    """
    with ModuleTracker() as tracker, torch.inference_mode():
        try:
            model(torch.zeros(1, _FRAMES, bins))
        except (RuntimeError, LookupError, ValueError) as error:
            layer = max(tracker.parents, key=len).partition(".")[2]
            where = f" in '{layer}'" if layer else ""
            reason = str(error).partition("\n")[0]
            raise SparsifyError(
                f"'{path}' is damaged: the widths of its network do not fit together{where}"
                f" ({reason[:200]})"
            ) from error


def check_table(table: SparsityTable, network: nn.Module, selection: Selection, path: Path) -> None:
    """Refuses what a file says of its parameters where the network that it names says otherwise.

    Args:
        table: What the file says.
        network: The network, perhaps without values.
        selection: What might become sparse in training.
        path: The file.

    Raises:
        SparsifyError: It does.
    """
    shapes = {name: tuple(each.shape) for name, each in network.named_parameters()}
    kinds = parameter_kinds(network, *selection)
    told = {layer.name: layer for layer in table.layers}
    for name in told.keys() | {name for name, kind in kinds.items() if kind.prunable}:
        layer = told.get(name)
        found = layer and (layer.shape, Kind(layer.type, layer.prunable))
        if found != (shapes.get(name), kinds.get(name)):
            raise SparsifyError(
                f"'{path}' is damaged: what it says of '{name}' does not fit its network"
            )


def lost(state: Mapping[str, Tensor], architecture: Architecture) -> Iterator[str]:
    """Sentences about weights of the network that a file was made from and that it has no more.

    They may have been renamed or transposed; what was merged or folded has another size.

    Args:
        state: The tensors in the file.
        architecture: That network.
    """
    if architecture.is_code:
        return
    try:
        weights = prunable_parameters(architecture.outline())
    except SparsifyError as error:
        yield f"which weights sparsify wrote is not known: {error}"
        return
    sizes = Counter(weight.numel() for weight in weights.values())
    sizes.subtract(tensor.numel() for tensor in state.values() if tensor.dim() > 1)
    for name, weight in weights.items():
        if sizes[weight.numel()] > 0 and name not in state:
            yield f"'{name}', which sparsify wrote, is not found"


def is_intact_unsealed(
    state: Mapping[str, Tensor], architecture: Architecture, metadata: Mapping[str, str], path: Path
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
    expected = outline_in(path, architecture).state_dict()
    own = {name: tensor for name, tensor in state.items() if name in expected}
    if source_digest(own) == digest:
        return True
    if all(
        name.endswith(COUNTER)
        or (name in own and (t.shape, t.dtype) == (own[name].shape, own[name].dtype))
        for name, t in expected.items()
    ):
        raise altered(path)
    return False
