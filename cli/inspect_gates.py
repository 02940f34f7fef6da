"""The gates of `sparsify inspect`: what a model must have to pass."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from sparsify.artifact.artifact import Artifact
from sparsify.cli.gates import Gate
from sparsify.errors import SparsifyError
from sparsify.exporters.counting import Counted
from sparsify.sparsity.table import SparsityTable


def doubt_of(artifact: Artifact) -> str | None:
    """Why nothing is known for sure of the zeros in a file, if that is so."""
    if not artifact.left_out:
        return None
    first, *others = artifact.left_out
    return f"{first}{f' ({len(others)} more were left out, too)' if others else ''}"


def sparsity_gates(
    table: SparsityTable, minimum: float | None, maximum: float | None, doubt: str | None
) -> Iterator[Gate]:
    """Whether the prunable sparsity lies within its bounds, as far as there are any.

    Args:
        table: What was counted.
        minimum: A bound from below.
        maximum: A bound from above.
        doubt: Of the file, see `doubt_of`.
    """
    for name, threshold, passes in (
        ("min_sparsity", minimum, table.at_least),
        ("max_sparsity", maximum, table.at_most),
    ):
        if threshold is not None:
            passed = doubt is None and passes(threshold)
            what = "the prunable sparsity"
            yield Gate(name, threshold, table.sparsity, passed, what, _share_shown, doubt)


def macs_gate(artifact: Artifact, table: SparsityTable, counted: Counted, threshold: float) -> Gate:
    """Whether no more than a share of the dense network's multiply-adds is left.

    Raises:
        SparsifyError: They are not known.
    """
    work = counted.of(table.layers)
    if work is None:
        raise SparsifyError(
            f"--max-macs: the multiply-adds of '{artifact.path}' are not known: {counted.why_not}"
        )
    left = work.multiply_adds - work.by_zeros
    doubt = doubt_of(artifact)
    passed = doubt is None and left <= Fraction(str(threshold)) * work.multiply_adds
    what = "the share of multiply-adds"
    return Gate("max_macs", threshold, 1 - work.sparsity, passed, what, _share_shown, doubt)


def _share_shown(share: float) -> str:
    return f"{share:.4%}"
