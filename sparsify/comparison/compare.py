"""A comparison from plan to results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from sparsify.comparison.plan import Plan
from sparsify.comparison.results import (
    RESULTS_FILE,
    Results,
    read_results,
    summarise,
    to_json,
)
from sparsify.comparison.rows import Row, collect_run
from sparsify.comparison.runner import Watch, alone, carry_out, ignore
from sparsify.comparison.steps import RUNS, check_recipe, is_complete
from sparsify.comparison.tables import to_csv, to_markdown
from sparsify.comparison.tuning import fatal_failures, tuned_plan, tuning_plan, tuning_rows
from sparsify.files import replacing
from sparsify.progress import Track, silent

Display = Callable[[str], AbstractContextManager[Watch]]
"""Begins to show trainings, under a title, to whoever watches."""


def compare(
    plan: Plan,
    output: Path,
    *,
    jobs: int,
    device: str = "auto",
    measure_latency: bool = False,
    display: Display = lambda _: nullcontext(ignore),
    track: Track = silent,
) -> Results:
    """Carries a plan out and writes `results.json`, `results.csv` and `results.md`.

    Args:
        plan: What is compared.
        output: Folder of the comparison; what it holds already is not done again.
        jobs: Processes at a time.
        device: For the trainings.
        measure_latency: Measure the latency of each model, too.
        display: Shows the progress of the trainings, first of those that tune the methods.
        track: Shows the progress of reading the results.

    Returns:
        The content of `results.json`; runs that failed are among its `failures`. An interruption
        leaves the results of what is complete.

    Raises:
        SparsifyError: The plan cannot be carried out here at all.
    """
    plan.check()
    with alone(output):  # what is refused changes nothing
        for cell in (*plan.runs, *tuning_plan(plan).runs):
            check_recipe(plan, cell, output)
        plan.write(output)
    tuned: list[Row] = []
    if plan.tunings:
        with display("tuning") as watch:
            failures = carry_out(tuning_plan(plan), output, jobs=jobs, device=device, watch=watch)
        tuned = tuning_rows(plan, output, failures)
        plan = tuned_plan(plan, tuned)
    try:
        with display("all runs") as watch:
            failures = carry_out(
                plan, output, jobs=jobs, device=device, measure_latency=measure_latency, watch=watch
            )
    except KeyboardInterrupt:
        if any(is_complete(plan, cell, output) for cell in plan.runs):
            _write_results(plan, output, tuned, fatal_failures(tuned), track)
        raise
    return _write_results(plan, output, tuned, failures | fatal_failures(tuned), track)


def _write_results(
    plan: Plan, output: Path, tuned: list[Row], failures: dict[str, str], track: Track
) -> Results:
    """Writes the results of the runs that are complete, in every form, and returns them."""
    before = {row["run"]: row for row in (read_results(output) or {}).get("runs", [])}
    done = [cell.name for cell in plan.runs if is_complete(plan, cell, output)]
    rows = [
        _row(plan, output, name, before.get(name))
        for name in track(done, "Reading results", len(done))
    ]
    results = summarise(plan, rows, tuned, failures)
    _write(output / RESULTS_FILE, to_json(results))
    _write(output / "results.csv", to_csv(results))
    _write(output / "results.md", to_markdown(results))
    return results


def _row(plan: Plan, output: Path, name: str, before: Row | None) -> Row:
    """The row of a run; the one it had is good as long as no file of the run is newer."""
    run, tests = output / RUNS / name, [test.name for test in plan.tests]
    if before is not None and list(before["tests"]) == tests:
        changed = max(file.stat().st_mtime for file in run.rglob("*.json"))
        if changed < (output / RESULTS_FILE).stat().st_mtime:
            return before
    return collect_run(run, tests)


def _write(file: Path, text: str) -> None:
    with replacing(file) as temporary:
        temporary.write_text(text, "utf-8")
