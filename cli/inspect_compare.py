"""`sparsify inspect --compare`: how the weights of a model differ from those of another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.cli.display import out
from sparsify.cli.tables import Column, fitted
from sparsify.errors import SparsifyError
from sparsify.sparsity.changes import Change, changes


@dataclass(frozen=True)
class Comparison:
    """The weights of a model beside those of another.

    Attributes:
        path: Of the other.
        changes: Of what both have in the same shape, by name.
        left_out: Names of the rest.
    """

    path: Path
    changes: Mapping[str, Change]
    left_out: Sequence[str]

    @property
    def total(self) -> Change:
        """All of it as one."""
        return sum(self.changes.values(), Change())

    def to_json(self) -> dict[str, Any]:
        """As the command prints it."""
        return {
            "path": str(self.path),
            **_as_json(self.total),
            "left_out": self.left_out,
            "layers": [{"name": name} | _as_json(each) for name, each in self.changes.items()],
        }


def compare_weights(artifact: Artifact, other: Artifact, *, prunable: bool) -> Comparison:
    """Compares the parameters of two models.

    Args:
        artifact: The model.
        other: What it is compared with.
        prunable: Leave out parameters that are not prunable.

    Raises:
        SparsifyError: They have none in common, or the tensors of one do not fit its network.
    """
    tables = [weights_table(each) for each in (artifact, other)]
    layers, others = (table.prunable if prunable else table.layers for table in tables)
    # In a .mnn file some parameters are merged into operators of another name.
    stored = [layer for layer in layers if layer.name in artifact.state]
    found = changes(stored, artifact.state, other.state)
    if not found:
        raise SparsifyError(
            f"'{artifact.path}' and '{other.path}' have no weight of the same name and shape:"
            " compare models of the same network"
        )
    names = dict.fromkeys(layer.name for layer in (*layers, *others))
    return Comparison(other.path, found, [name for name in names if name not in found])


def show_comparison(comparison: Comparison) -> None:
    """Prints a row for every layer, their sum, and what could not be compared."""
    rows = {**comparison.changes, "All of these": comparison.total}
    each = list(rows.values())
    out.print(
        fitted(
            [
                Column("Parameter", list(rows), left=True),
                Column("Size", [f"{change.parameters:,}" for change in each], rank=2),
                Column("Sparsity", [f"{change.sparsity:.2%}" for change in each]),
                Column("Other's", [f"{change.other_sparsity:.2%}" for change in each]),
                Column("Overlap", [f"{change.overlap:.2%}" for change in each]),
                Column("Distance", [_distance(change) for change in each], rank=1),
            ],
            sections=[len(comparison.changes)],
        )
    )
    _say(
        f"\nAgainst {comparison.path}. Overlap: weights that are nonzero in both, of those that are"
        " in either. Distance: norm of the difference over the other's norm."
    )
    if comparison.left_out:
        _say(f"Not in both, or of another shape: {', '.join(comparison.left_out)}.")


def _say(text: str) -> None:
    out.print(text, markup=False, soft_wrap=not out.is_terminal)


def _as_json(change: Change) -> dict[str, Any]:
    return {
        "parameters": change.parameters,
        "sparsity": change.sparsity,
        "other_sparsity": change.other_sparsity,
        "overlap": change.overlap,
        "distance": change.distance if math.isfinite(change.distance) else None,
    }


def _distance(change: Change) -> str:
    return "∞" if math.isinf(change.distance) else f"{change.distance:.4f}"
