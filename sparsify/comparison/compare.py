"""A comparison from plan to results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from sparsify.comparison.commands import LOGS, RUNS, check_recipe, evaluated
from sparsify.comparison.executor import Executor
from sparsify.comparison.plan import PLAN_FILE, Plan
from sparsify.comparison.results import (
    RESULTS_FILE,
    Results,
    read_results,
    results_json,
    results_of,
)
from sparsify.comparison.rows import Row, collect_run
from sparsify.comparison.runner import Watch, alone, carry_out, ignore
from sparsify.comparison.text_tables import to_csv, to_markdown
from sparsify.comparison.tuning import fatal_failures, tuned_plan, tuning_plan, tuning_rows
from sparsify.errors import SparsifyError
from sparsify.files import write_text
from sparsify.progress import Track, silent
from sparsify.training.devices import Device

Display = Callable[[str], AbstractContextManager[Watch]]
"""Begins to show trainings, under a title, to whoever watches."""


def compare(
    plan: Plan,
    output: Path,
    *,
    executor: Executor,
    device: Device = "auto",
    measure_latency: bool = False,
    trust: bool = False,
    display: Display = lambda _: nullcontext(ignore),
    track: Track = silent,
) -> Results:
    """Carries a plan out and writes `results.json`, `results.csv` and `results.md`.

    Args:
        plan: What is compared.
        output: Folder of the comparison; what it holds already is not done again.
        executor: Runs the trainings and evaluations.
        device: For the trainings.
        measure_latency: Measure the latency of each model, too.
        trust: Whether the file of a teacher may name code as its network. The network of the recipe
            is the caller's choice.
        display: Shows the progress of the trainings, first of those that tune the methods.
        track: Shows the progress of reading the results.

    Returns:
        The content of `results.json`; runs that failed are among its `failures`. An interruption
        leaves the results of what is complete.

    Raises:
        SparsifyError: The plan cannot be carried out by this executor at all.
    """
    _check_output(output)
    plan.check()
    with alone(output):  # what is refused changes nothing
        executor.check(output / LOGS)
        for cell in (*plan.runs, *tuning_plan(plan).runs):
            check_recipe(plan, cell, output)
        plan.write(output)
    tuned: list[Row] = []
    if plan.tunings:
        with display("tuning") as watch:
            failures = carry_out(
                tuning_plan(plan),
                output,
                executor=executor,
                device=device,
                trust=trust,
                watch=watch,
            )
        tuned = tuning_rows(plan, output, failures)
        plan = tuned_plan(plan, tuned)
    try:
        with display("all runs") as watch:
            failures = carry_out(
                plan,
                output,
                executor=executor,
                device=device,
                measure_latency=measure_latency,
                trust=trust,
                watch=watch,
            )
    except KeyboardInterrupt:
        rows, _ = _collect(plan, output, track)
        if rows:
            _write_results(output, results_of(plan, rows, tuned, fatal_failures(tuned)))
        raise
    rows, damaged = _collect(plan, output, track)
    failures = damaged | failures | fatal_failures(tuned)
    return _write_results(output, results_of(plan, rows, tuned, failures))


def _check_output(output: Path) -> None:
    """Refuses a folder in which somebody keeps something else."""
    if not output.exists():
        return
    if not output.is_dir():
        raise SparsifyError(f"'{output}' is a file: choose another --output")
    own = any((output / name).exists() for name in (PLAN_FILE, RUNS, LOGS))
    if not own and any(output.iterdir()):
        raise SparsifyError(f"'{output}' exists and is not empty: choose another --output")


def _collect(plan: Plan, output: Path, track: Track) -> tuple[list[Row], dict[str, str]]:
    """The rows of the runs that have figures, and what is wrong with others."""
    before = {row["run"]: row for row in (read_results(output) or {}).get("runs", [])}
    rows, damaged = [], {}
    for cell in track(plan.runs, "Reading results", len(plan.runs)):
        try:
            if (tests := evaluated(plan, cell, output)) is not None:
                row = _row(output, cell.name, tests, before.get(cell.name))
                rows.append(row | {"method": cell.series})
        except SparsifyError as error:
            damaged[cell.name] = str(error)
    return rows, damaged


def _write_results(output: Path, results: Results) -> Results:
    """Writes results in every form, and returns them."""
    write_text(output / RESULTS_FILE, results_json(results))
    write_text(output / "results.csv", to_csv(results))
    write_text(output / "results.md", to_markdown(results))
    return results


def _row(output: Path, name: str, tests: list[str], before: Row | None) -> Row:
    """The row of a run; the one it had is good as long as no file of the run is newer."""
    run = output / RUNS / name
    if before is not None and list(before["tests"]) == tests:
        changed = max(file.stat().st_mtime for file in run.rglob("*.json"))
        if changed < (output / RESULTS_FILE).stat().st_mtime:
            return before
    return collect_run(run, tests)
