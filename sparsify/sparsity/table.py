"""The layer-wise sparsity table; importing this module takes no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from sparsify.sparsity.selection import looks_prunable

_LARGE = 0.01  # of all parameters
_ROUNDING = 1e-6  # of one weight: what the division of two counts may lose


class Kind(NamedTuple):
    """What a parameter is: the class of the layer that owns it, and whether it may be pruned."""

    type: str
    prunable: bool


@dataclass(frozen=True)
class LayerSparsity:
    """One parameter tensor and its exact zeros.

    Attributes:
        name: Parameter name as in the state dict.
        type: Class of the layer that owns it, such as `Conv1d`.
        shape: Shape of the tensor.
        parameters: Number of elements.
        nonzero: Number of elements that are not exactly zero.
        prunable: Whether the tensor may be made sparse.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    nonzero: int
    prunable: bool

    @property
    def sparsity(self) -> float:
        """Share of exact zeros, in [0, 1]."""
        return (self.parameters - self.nonzero) / self.parameters if self.parameters else 0.0

    def to_json(self) -> dict[str, Any]:
        """`name type shape parameters nonzero sparsity prunable`, as all JSON of ours has them."""
        return {
            "name": self.name,
            "type": self.type,
            "shape": list(self.shape),
            "parameters": self.parameters,
            "nonzero": self.nonzero,
            "sparsity": self.sparsity,
            "prunable": self.prunable,
        }


def no_weight_left(names: Sequence[str], most: int = 4) -> str:
    """A clause that names layers without a weight, such as `SparsityTable.emptied`."""
    shown = names if len(names) <= most + 1 else [*names[:most], f"{len(names) - most} more layers"]
    *first, last = shown
    return f"no weight is left in {', '.join(first)}{' and ' if first else ''}{last}"


@dataclass(frozen=True)
class SparsityTable:
    """The parameters of a deployed network, one row each, with totals."""

    layers: tuple[LayerSparsity, ...]

    @property
    def prunable(self) -> tuple[LayerSparsity, ...]:
        """The rows that count for `sparsity`."""
        return tuple(layer for layer in self.layers if layer.prunable)

    @property
    def sparsity(self) -> float:
        """Share of exact zeros among the prunable parameters."""
        return _share_of_zeros(self.prunable)

    @property
    def emptied(self) -> tuple[str, ...]:
        """Names of the prunable parameters of which nothing is left."""
        return tuple(layer.name for layer in self.prunable if not layer.nonzero)

    @property
    def global_sparsity(self) -> float:
        """Share of exact zeros among all parameters."""
        return _share_of_zeros(self.layers)

    @property
    def parameters(self) -> int:
        """All trainable parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def nonzero(self) -> int:
        """All trainable parameters that are not exactly zero."""
        return sum(layer.nonzero for layer in self.layers)

    def at_least(self, share: float) -> bool:
        """Whether `sparsity` reaches `share`, to within half a weight: counts are whole."""
        return self.sparsity >= share - self._half_weight

    def at_most(self, share: float) -> bool:
        """Whether `sparsity` stays within `share`, to within half a weight."""
        return self.sparsity <= share + self._half_weight

    @property
    def _half_weight(self) -> float:
        prunable = sum(layer.parameters for layer in self.prunable)
        return (0.5 + _ROUNDING) / prunable if prunable else 0.0

    def __str__(self) -> str:
        width = max([len(layer.name) for layer in self.prunable], default=0)
        lines = [
            f"{layer.name:<{width}}  {layer.parameters:>12,}  {layer.nonzero:>12,}"
            f"  {layer.sparsity:>8.2%}"
            for layer in self.prunable
        ]
        lines.append(
            f"prunable {self.sparsity:.2%} sparse, whole model {self.global_sparsity:.2%}"
            f" ({self.nonzero:,} of {self.parameters:,} parameters are nonzero)"
        )
        return "\n".join(lines)


def left_dense(table: SparsityTable, ignore: Sequence[str] = ()) -> tuple[LayerSparsity, ...]:
    """The large matrices that no method prunes, such as those of an LSTM, unless they are included.

    Args:
        table: Of a network.
        ignore: Glob patterns of names that are protected on purpose.
    """
    least = _LARGE * table.parameters
    return tuple(
        layer
        for layer in table.layers
        if not layer.prunable
        and looks_prunable(layer.shape)
        and layer.parameters >= least
        and not any(fnmatchcase(layer.name, pattern) for pattern in ignore)
    )


def dense_in_words(layers: Sequence[LayerSparsity]) -> str:
    """A sentence about what `left_dense` has found: what it is, and how it would be pruned."""
    weights = sum(layer.parameters for layer in layers)
    types = ", ".join(dict.fromkeys(layer.type for layer in layers))
    owners = dict.fromkeys(layer.name.rpartition(".")[0] for layer in layers)
    patterns = [f"{owner}.*" if owner else "*" for owner in owners]
    return (
        f"left dense: {weights:,} weights of {types}, such as {layers[0].name}"
        f" (--set 'model.include=[{', '.join(patterns)}]' prunes them)"
    )


def _share_of_zeros(layers: Sequence[LayerSparsity]) -> float:
    parameters = sum(layer.parameters for layer in layers)
    nonzero = sum(layer.nonzero for layer in layers)
    return (parameters - nonzero) / parameters if parameters else 0.0
