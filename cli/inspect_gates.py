"""The gates of `sparsify inspect`: what a model must have to pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from sparsify.cli.display import GateError
from sparsify.errors import SparsifyError
from sparsify.exporters.counting import Counted
from sparsify.sparsity.table import SparsityTable

Gate = Mapping[str, Any]

MIN_SPARSITY, MAX_SPARSITY, MAX_MACS = "min_sparsity", "max_sparsity", "max_macs"
_GATES = {
    MIN_SPARSITY: ("the prunable sparsity", "below"),
    MAX_SPARSITY: ("the prunable sparsity", "above"),
    MAX_MACS: ("the share of multiply-adds", "above"),
}


def sparsity_gates(
    table: SparsityTable, minimum: float | None, maximum: float | None
) -> Iterator[Gate]:
    """Whether the prunable sparsity lies within its bounds, as far as there are any."""
    for name, threshold, passes in (
        (MIN_SPARSITY, minimum, table.at_least),
        (MAX_SPARSITY, maximum, table.at_most),
    ):
        if threshold is not None:
            yield _gate(name, threshold, table.sparsity, passes(threshold))


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
    return _gate(MAX_MACS, threshold, 1 - work.sparsity, passed)


def _gate(name: str, threshold: float, value: float, passed: bool) -> Gate:
    return {"name": name, "threshold": threshold, "value": value, "passed": passed}


def fail_if_any(gates: Iterable[Gate]) -> None:
    """Fails with the sentence of the first gate that was not passed.

    Raises:
        GateError: There is one.
    """
    for gate in gates:
        if not gate["passed"]:
            raise GateError(_failed(gate))


def _failed(gate: Gate) -> str:
    what, side = _GATES[gate["name"]]
    option = f"--{gate['name'].replace('_', '-')}"
    return f"{what} {gate['value']:.4%} is {side} {option} {gate['threshold']:.4%}"
