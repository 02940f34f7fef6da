"""`--fail-if`: conditions on the results of a comparison, as an option and its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparsify.cli.display import GateError
from sparsify.cli.gates import say_passed
from sparsify.comparison.gates import Gate
from sparsify.comparison.means import gate_metrics
from sparsify.comparison.results import Results


def gates_json(results: Results, gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """The conditions with their verdicts; those on half a comparison are not decided.

    Value and threshold are the sides of a condition that is one comparison.

    Raises:
        SparsifyError: A gate refers to what there is not, or cannot be computed.
    """
    metrics = gate_metrics(results["runs"])
    decided = []
    for gate in gates:
        passed = None if results["failures"] else not gate.holds(metrics)
        value, threshold = (None if passed is None else gate.sides(metrics)) or (None, None)
        decided.append(
            {"name": gate.text, "threshold": threshold, "value": value, "passed": passed}
        )
    return decided


def check_results(results: Results, gates: Sequence[Gate], *, as_json: bool) -> None:
    """Tells of gates that were passed, or fails with one sentence about those and failed runs.

    Args:
        results: Of the runs.
        gates: Conditions on them.
        as_json: They are in the JSON, which nothing may follow.

    Raises:
        GateError: There are such.
        SparsifyError: A gate refers to what there is not, or cannot be computed.
    """
    failures = results["failures"]
    if failures:
        reasons: dict[str, list[str]] = {}
        for name, error in failures.items():
            reasons.setdefault(error.partition(" (")[0], []).append(name)
        told = "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())
        runs = len({row["run"] for row in results["runs"]} | failures.keys())
        raise GateError(f"{len(failures)} of {runs} runs failed: {told}")
    metrics = gate_metrics(results["runs"])
    failed = [gate for gate in gates if gate.holds(metrics)]
    if failed:
        told = "; ".join(f"{gate.text} holds{_numbers(gate, metrics)}" for gate in failed)
        raise GateError(told)
    if gates and not as_json:
        told = "; ".join(f"{gate.text} does not hold{_numbers(gate, metrics)}" for gate in gates)
        say_passed(told)


def _numbers(gate: Gate, metrics: Mapping[str, Mapping[str, float]]) -> str:
    """What was compared, in numbers."""
    sides = gate.sides(metrics)
    if sides is None:
        return f", in numbers {gate.with_numbers(metrics)}"
    for digits in (5, 9):  # as few as tell them apart
        left, right = (f"{side:.{digits}g}" for side in sides)
        if left != right:
            break
    return f": {left} against {right}"
