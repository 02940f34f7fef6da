"""`sparsify inspect --compare`: how the weights of a model differ from those of another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.cli.display import human_bytes, out, say
from sparsify.cli.tables import Column, fitted
from sparsify.errors import SparsifyError
from sparsify.exporters.sizes import Resized, Resizing, Size, resizing
from sparsify.sparsity.changes import Change, changes


@dataclass(frozen=True)
class Comparison:
    """The weights of a model beside those of another.

    Attributes:
        path: Of the other.
        changes: Of what both have in the same shape, by name.
        left_out: Names of the rest.
        resizing: How their sizes differ, if shapes do.
    """

    path: Path
    changes: Mapping[str, Change]
    left_out: Sequence[str]
    resizing: Resizing | None = None

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
            "sizes": self.resizing.to_json() if self.resizing else None,
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
    stored = [layer for layer in layers if layer.name in artifact.arrays]
    found = changes(stored, artifact.arrays, other.arrays)
    resized = resizing(artifact, other, prunable=prunable)
    if not found and not resized:
        raise SparsifyError(
            f"'{artifact.path}' and '{other.path}' have no weight of the same name and shape:"
            " compare models of the same network"
        )
    names = dict.fromkeys(layer.name for layer in (*layers, *others))
    left_out = [name for name in names if name not in found]
    return Comparison(other.path, found, left_out, resized)


def show_comparison(comparison: Comparison) -> None:
    """Prints a row for every layer, their sum, and what could not be compared."""
    left_out = comparison.left_out
    if comparison.resizing:
        _show_sizes(comparison.resizing, comparison.path)
        left_out = [n for n in left_out if n not in {e.name for e in comparison.resizing.layers}]
        total, count = comparison.total, len(comparison.changes)
        if count:
            say(
                f"{count} of these have the same shape in both: {total.overlap:.2%} overlap,"
                f" distance {_distance(total)} (see --json)."
            )
        else:
            say("None of these has the same shape in both: no weights are compared.")
    else:
        _show_changes(comparison.changes, comparison.total, comparison.path)
    if left_out:
        say(f"Not in both, or of another shape: {', '.join(left_out)}.")


def _show_changes(found: Mapping[str, Change], total: Change, path: Path) -> None:
    rows = {**found, "All of these": total}
    each = list(rows.values())
    out.print(
        fitted(
            [
                Column("Parameter", list(rows), left=True, name=True),
                Column("Size", [f"{change.parameters:,}" for change in each], rank=2),
                Column("Sparsity", [f"{change.sparsity:.2%}" for change in each]),
                Column("Other's", [f"{change.other_sparsity:.2%}" for change in each]),
                Column("Overlap", [f"{change.overlap:.2%}" for change in each]),
                Column("Distance", [_distance(change) for change in each], rank=1),
            ],
            sections=[len(found)],
        )
    )
    say(
        f"\nAgainst {path}. Overlap: weights that are nonzero in both, of those that are"
        " in either. Distance: norm of the difference over the other's norm."
    )


def _show_sizes(found: Resizing, path: Path) -> None:
    layers = found.layers
    sizes = [*((each.other, each.size) for each in layers), (found.other, found.size)]
    shapes = [_shapes(each) for each in layers]
    names = [*(each.name for each in layers), "Whole model"]
    known = found.size.multiply_adds is not None or found.other.multiply_adds is not None
    work = Column("Multiply-adds", [_works(*both) for both in sizes], rank=1)
    out.print(
        fitted(
            [
                Column("Parameter", names, left=True, name=True),
                Column("Channels", [_change(*(size.channels for size in both)) for both in sizes]),
                Column("Shape", [*shapes, ""], rank=3),
                Column("Size", [_change(*(size.parameters for size in both)) for both in sizes], 2),
                *([work] if known else []),
            ],
            sections=[len(layers)],
        )
    )
    before, after = human_bytes(found.other_bytes), human_bytes(found.bytes)
    say(f"\nFrom {path}, {before}, to this model, {after}: {_relation(found)}.")


def _relation(found: Resizing) -> str:
    if found.shrunk_from_other:
        return "this one is the other without its dead channels (export --shrink)"
    if found.shrunk_into_other:
        return "the other is this one without its dead channels (export --shrink)"
    return "neither says that it was shrunk from the other"


def _change(before: int, after: int) -> str:
    """Of a norm or a bias, which makes no channels, nothing."""
    if not before and not after:
        return ""
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"


def _shapes(layer: Resized) -> str:
    shapes = ("×".join(map(str, each)) for each in (layer.other_shape, layer.shape))
    return " → ".join(dict.fromkeys(shapes))


def _works(before: Size, after: Size) -> str:
    works = (size.multiply_adds for size in (before, after))
    shown = ("?" if work is None else f"{work / 1e6:,.2f} M" for work in works)
    return " → ".join(dict.fromkeys(shown))


def _as_json(change: Change) -> dict[str, Any]:
    return {
        "parameters": change.parameters,
        "sparsity": change.sparsity,
        "other_sparsity": change.other_sparsity,
        "overlap": change.overlap,
        "distance": change.distance,
    }


def _distance(change: Change) -> str:
    return "∞" if math.isinf(change.distance) else f"{change.distance:.4f}"
