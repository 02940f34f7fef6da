"""What differs between the weights of two models; importing this module takes no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sparsify.arrays import Array
from sparsify.sparsity.table import LayerSparsity


@dataclass(frozen=True)
class Change:
    """Parameters that two models have, and how they differ.

    Attributes:
        parameters: Number of elements.
        nonzero: Of them in the first model.
        other_nonzero: In the second.
        shared: Nonzero in both.
        squares: Sum of the squares of the second's values.
        square_error: Sum of the squares of the differences.
    """

    parameters: int = 0
    nonzero: int = 0
    other_nonzero: int = 0
    shared: int = 0
    squares: float = 0.0
    square_error: float = 0.0

    def __add__(self, other: Change) -> Change:
        return Change(**{name: value + vars(other)[name] for name, value in vars(self).items()})

    @property
    def sparsity(self) -> float:
        """Share of zeros in the first model."""
        return (self.parameters - self.nonzero) / self.parameters if self.parameters else 0.0

    @property
    def other_sparsity(self) -> float:
        """Share of zeros in the second."""
        return (self.parameters - self.other_nonzero) / self.parameters if self.parameters else 0.0

    @property
    def overlap(self) -> float:
        """Nonzeros of both over nonzeros of either (Jaccard index); 1 for equal masks."""
        either = self.nonzero + self.other_nonzero - self.shared
        return self.shared / either if either else 1.0

    @property
    def distance(self) -> float:
        """Norm of the difference over the norm of the second; infinite where that is zero."""
        if not self.square_error:
            return 0.0
        return math.sqrt(self.square_error / self.squares) if self.squares else math.inf


def changes(
    layers: Iterable[LayerSparsity], arrays: Mapping[str, Array], others: Mapping[str, Array]
) -> dict[str, Change]:
    """The changes of those parameters that both models have in the same shape, by name.

    Args:
        layers: What to compare.
        arrays: Of the first model.
        others: Of the second.
    """
    return {
        layer.name: _change(arrays[layer.name], others[layer.name])
        for layer in layers
        if layer.name in others and others[layer.name].shape == arrays[layer.name].shape
    }


def _change(array: Array, other: Array) -> Change:
    with np.errstate(all="ignore"):  # whatever a file holds
        first, second = array.astype(np.float64), other.astype(np.float64)
        return Change(
            parameters=first.size,
            nonzero=int(np.count_nonzero(first)),
            other_nonzero=int(np.count_nonzero(second)),
            shared=int(np.count_nonzero((first != 0) & (second != 0))),
            squares=float(np.square(second).sum()),
            square_error=float(np.square(first - second).sum()),
        )
