"""Chooses an option of each method before the comparison, on validation speakers alone.

The trainings that a method's values are tried in are its first run with each of them. The run with
the value that is chosen is then that run of the comparison, and not trained again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sparsify.comparison.cells import Cell, Scalar
from sparsify.comparison.commands import RUNS
from sparsify.comparison.plan import Plan, Tuning
from sparsify.comparison.rows import Row, summary_of, validation_of
from sparsify.training.model_selection import error_rate
from sparsify.training.run_directory import RunDirectory

_FAR = 2  # decimals: models less than about half a percent off target are equally near to it


def tuning_plan(plan: Plan) -> Plan:
    """The trainings that the values are chosen from; no test set is looked at."""
    cells = [cell for tuning in plan.tunings for cell in plan.trials_of(tuning).values()]
    return plan.model_copy(update={"runs": tuple(cells), "tests": ()})


def tuned_plan(plan: Plan, tuned: list[Row]) -> Plan:
    """The comparison with the values that were chosen, without methods that have none.

    Args:
        plan: The comparison as planned.
        tuned: What `tuning_rows` gave.
    """
    chosen = {row["method"]: ((row["option"], row["chosen"]),) for row in tuned}
    unlucky = {row["method"] for row in tuned if row["chosen"] is None}
    runs = [
        cell.model_copy(update={"options": chosen.get(cell.method, ())})
        for cell in plan.runs
        if cell.method not in unlucky
    ]
    return plan.model_copy(update={"runs": tuple(runs)})


def tuning_rows(plan: Plan, output: Path, failures: Mapping[str, str]) -> list[Row]:
    """What was tried for each method, and what was chosen (docs/compare.md).

    Chosen is, of the models nearest to their target, the one with the lowest mean of clean and
    corrupted EER on validation speakers; `None` if all trainings of a method failed.

    Args:
        plan: The comparison as planned.
        output: Its folder.
        failures: What went wrong, by the name of the run.
    """
    return [_tuning_row(plan, tuning, output, failures) for tuning in plan.tunings]


def fatal_failures(tuned: list[Row]) -> dict[str, str]:
    """The failures that left a method without a value, by the name of the run."""
    return {
        each["run"]: each["error"]
        for row in tuned
        if row["chosen"] is None
        for each in row["tried"]
    }


def _tuning_row(plan: Plan, tuning: Tuning, output: Path, failures: Mapping[str, str]) -> Row:
    trials = plan.trials_of(tuning)
    tried = [_tried(value, cell, output, failures) for value, cell in trials.items()]
    finished = [row for row in tried if row["error"] is None]
    first = next(iter(trials.values()))
    target = first.target_sparsity

    def rank(row: Row) -> tuple[float, float]:
        missed = 0.0 if target is None else round(abs(row["sparsity"] - target), _FAR)
        return missed, row["error_rate"]

    return {
        "method": tuning.method,
        "option": tuning.option,
        "target_sparsity": target,
        "seed": first.seed,
        "chosen": min(finished, key=rank)["value"] if finished else None,
        "tried": tried,
    }


def _tried(value: Scalar, cell: Cell, output: Path, failures: Mapping[str, str]) -> Row:
    summary = summary_of(RunDirectory(output / RUNS / cell.name))
    row: Row = {"value": value, "run": cell.name}
    if summary is None:
        return row | {"error": failures.get(cell.name, "it did not end")}
    validation = validation_of(summary)
    return row | {
        "error": None,
        "sparsity": summary["sparsity"],
        "validation": validation,
        "error_rate": error_rate(validation),
        "seconds": summary["seconds"],
    }
