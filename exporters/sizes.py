"""How large networks are, and how two differ of one architecture and of other widths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.provenance import ROUNDED_FROM, SHRUNK_FROM
from sparsify.exporters.accounts import Counted
from sparsify.exporters.counting import count_work
from sparsify.files import size_bytes
from sparsify.sparsity.table import LayerSparsity


@dataclass(frozen=True)
class Size:
    """How large a network is.

    Attributes:
        channels: Outputs of all layers with prunable weights.
        parameters: Trainable parameters.
        multiply_adds: For two seconds of speech; `None` where they cannot be counted.
    """

    channels: int
    parameters: int
    multiply_adds: int | None


def size_of(layers: Iterable[LayerSparsity], counted: Counted) -> Size:
    """The size of some layers, or of all.

    Args:
        layers: Parameters of a network.
        counted: The multiply-adds of the network.
    """
    layers = tuple(layers)
    work = counted.of(layers)
    return Size(
        channels=sum(layer.shape[0] for layer in layers if layer.prunable),
        parameters=sum(layer.parameters for layer in layers),
        multiply_adds=None if work is None else work.multiply_adds,
    )


@dataclass(frozen=True)
class Resized:
    """A parameter that two networks have, perhaps in other shapes, and what it takes in each."""

    name: str
    shape: tuple[int, ...]
    other_shape: tuple[int, ...]
    size: Size
    other: Size


@dataclass(frozen=True)
class Resizing:
    """A network beside another of the same architecture, with channels of other numbers.

    Attributes:
        shrunk_from_other: Whether its dead channels were taken out of the other.
        shrunk_into_other: Whether it was the other way round.
        size: Its size.
        other: That of the other.
        bytes: Size of what is deployed.
        other_bytes: That of the other.
        layers: The parameters that both have.
    """

    shrunk_from_other: bool
    shrunk_into_other: bool
    size: Size
    other: Size
    bytes: int
    other_bytes: int
    layers: tuple[Resized, ...]

    def to_json(self) -> dict[str, Any]:
        """The sizes of both, and layer by layer."""
        return {
            "shrunk_from_other": self.shrunk_from_other,
            "shrunk_into_other": self.shrunk_into_other,
            **_as_json(self.size, self.other),
            "bytes": self.bytes,
            "other_bytes": self.other_bytes,
            "layers": [
                {
                    "name": each.name,
                    "shape": list(each.shape),
                    "other_shape": list(each.other_shape),
                    **_as_json(each.size, each.other),
                }
                for each in self.layers
            ],
        }


def resizing(artifact: Artifact, other: Artifact, *, prunable: bool) -> Resizing | None:
    """How a network differs from another in size.

    `None` if all shapes are the same, or it is no other width of that network.

    Args:
        artifact: The network.
        other: What it is compared with.
        prunable: Leave out parameters that are not prunable.

    Raises:
        SparsifyError: The tensors of one do not fit its architecture.
    """
    names = {each.architecture.name for each in (artifact, other) if each.architecture}
    tables = [weights_table(each) for each in (artifact, other)]
    shapes, others = ({layer.name: layer.shape for layer in table.layers} for table in tables)
    same = all(shapes[name] == others[name] for name in shapes.keys() & others.keys())
    if same or (len(names) > 1 and shapes.keys() != others.keys()):
        return None
    own, theirs = (count_work(each) for each in (artifact, other))
    layers, other_layers = (table.prunable if prunable else table.layers for table in tables)
    found = {layer.name: layer for layer in other_layers}
    return Resizing(
        shrunk_from_other=was_shrunk(artifact, other),
        shrunk_into_other=was_shrunk(other, artifact),
        size=size_of(tables[0].layers, own),
        other=size_of(tables[1].layers, theirs),
        bytes=_bytes(artifact),
        other_bytes=_bytes(other),
        layers=tuple(_resized(layers, found, own, theirs)),
    )


def _resized(
    layers: Iterable[LayerSparsity],
    others: dict[str, LayerSparsity],
    own: Counted,
    theirs: Counted,
) -> Iterator[Resized]:
    for layer in layers:
        if (other := others.get(layer.name)) is not None:
            sizes = size_of([layer], own), size_of([other], theirs)
            yield Resized(layer.name, layer.shape, other.shape, *sizes)


def was_shrunk(artifact: Artifact, source: Artifact) -> bool:
    """Whether a model says that it was made of another, as that was before it was rounded."""
    origin = artifact.metadata.get(SHRUNK_FROM)
    keys = ("source_digest", ROUNDED_FROM)
    known = source.architecture is not None and artifact.architecture is not None
    return known and origin is not None and origin in map(source.metadata.get, keys)


def _bytes(artifact: Artifact) -> int:
    return size_bytes(artifact.format.deployed_file(artifact.path))


def _as_json(size: Size, other: Size) -> dict[str, Any]:
    return vars(size) | {f"other_{key}": value for key, value in vars(other).items()}
