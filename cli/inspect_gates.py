"""The gates of `sparsify inspect`: what a model must have to pass."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from sparsify.cli.gates import Gate
from sparsify.errors import SparsifyError
from sparsify.exporters.counting import Counted
from sparsify.sparsity.table import SparsityTable


def sparsity_gates(
    table: SparsityTable, minimum: float | None, maximum: float | None
) -> Iterator[Gate]:
    """Whether the prunable sparsity lies within its bounds, as far as there are any."""
    for name, threshold, passes in (
        ("min_sparsity", minimum, table.at_least),
        ("max_sparsity", maximum, table.at_most),
    ):
        if threshold is not None:
            passed = passes(threshold)
            yield Gate(
                name, threshold, table.sparsity, passed, "the prunable sparsity", _share_shown
            )


def macs_gate(path: Path, table: SparsityTable, counted: Counted, threshold: float) -> Gate:
    """Whether no more than a share of the dense network's multiply-adds is left.

    Raises:
        SparsifyError: They are not known.
    """
    work = counted.of(table.layers)
    if work is None:
        raise SparsifyError(
            f"--max-macs: the multiply-adds of '{path}' are not known: {counted.why_not}"
        )
    left = work.multiply_adds - work.by_zeros
    passed = left <= Fraction(str(threshold)) * work.multiply_adds
    what = "the share of multiply-adds"
    return Gate("max_macs", threshold, 1 - work.sparsity, passed, what, _share_shown)


def _share_shown(share: float) -> str:
    return f"{share:.4%}"
