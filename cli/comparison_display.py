"""What a person sees of a comparison: bars while it is at work, then tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from sparsify.cli.display import out
from sparsify.cli.training_display import record_text
from sparsify.comparison.cells import target_text
from sparsify.comparison.commands import TRAINING
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row
from sparsify.comparison.runner import Progress as RunProgress
from sparsify.comparison.runner import Watch, ignore
from sparsify.comparison.wording import (
    compared,
    difference_text,
    eer_text,
    evaluation_sets,
    is_clear,
    left_out,
    lost,
    marked,
    references,
    spread_text,
    tuning_text,
)

INTERVAL = 30.0  # seconds between lines where there is no terminal


@contextmanager
def comparison_display(console: Console, title: str) -> Iterator[Watch]:
    """A watch that writes to a console: live on a terminal, plain lines elsewhere.

    Args:
        console: Where to write.
        title: Of the bar that stands for all runs.
    """
    if console.quiet:
        yield ignore
    elif console.is_terminal:
        display = LiveComparison(console, title)
        with display.progress:
            yield display.watch
    else:
        yield PlainComparison(console).watch


class Events:
    """Prints a line whenever a run begins something, is done or has failed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.told: dict[str, str] = {}

    def tell(self, runs: Sequence[RunProgress]) -> None:
        """Compares with what was told before."""
        for run in runs:
            state = run.doing if run.state == "running" else run.state
            name = run.cell.name
            if state != self.told.get(name, "waiting"):
                skipped = run.state == "done" and not run.doing
                detail = " already" if skipped else f": {run.error}" if run.error else ""
                self.console.print(f"{name}: {state}{detail}", markup=False)
            self.told[name] = state


class PlainComparison:
    """Events, and now and then where every run stands."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.events = Events(console)
        self.last = time.monotonic()

    def watch(self, runs: Sequence[RunProgress]) -> None:
        """Prints what is new."""
        self.events.tell(runs)
        if time.monotonic() - self.last >= INTERVAL:
            self.last = time.monotonic()
            for run in runs:
                if run.state == "running" and run.record:
                    self.console.print(f"{run.cell.name}: {_figures(run)}", markup=False)


class LiveComparison:
    """Events above a bar for all steps of all runs, and one for each run at work."""

    def __init__(self, console: Console, title: str) -> None:
        self.title = title
        self.events = Events(console)
        # Where the terminal is narrow, only the details are cut short.
        whole = Column(no_wrap=True, min_width=7)
        details = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=whole),
            BarColumn(12, table_column=Column(min_width=12)),
            TimeElapsedColumn(table_column=whole),
            TextColumn("left", table_column=Column(no_wrap=True, min_width=4)),
            TimeRemainingColumn(table_column=whole),
            TextColumn("{task.fields[detail]}", markup=False, table_column=details),
            console=console,
            transient=True,
            expand=True,
        )
        self.everything: TaskID | None = None
        self.tasks: dict[str, TaskID] = {}

    def watch(self, runs: Sequence[RunProgress]) -> None:
        """Moves the bars."""
        self.events.tell(runs)
        total, done = sum(run.steps for run in runs), sum(run.step for run in runs)
        finished = sum(run.state in ("done", "failed") for run in runs)
        if self.everything is None:  # what was done before does not count for the time left
            self.everything = self.progress.add_task(self.title, completed=done, detail="")
        self.progress.update(
            self.everything, total=total, completed=done, detail=f"{finished}/{len(runs)} runs"
        )
        for run in runs:
            name = run.cell.name
            if run.state != "running":
                if name in self.tasks:
                    self.progress.remove_task(self.tasks.pop(name))
                continue
            if name not in self.tasks:
                self.tasks[name] = self.progress.add_task(name, total=run.steps, detail="")
            self.progress.update(self.tasks[name], completed=run.step, detail=_figures(run))


def _figures(run: RunProgress) -> str:
    if run.doing != TRAINING or not run.record:
        return run.doing
    return f"{run.step}/{run.steps}  {record_text(dict(run.record), live=True)}"


def show_results(results: Results) -> None:
    """Prints the means over seeds, the differences, and what was tuned."""
    sets = evaluation_sets(results)
    view = Table(box=None, pad_edge=False)
    view.add_column("Method")
    heads = ["Target", "Sparsity", *(f"EER {title} %" for title in sets.values()), "minDCF"]
    for heading in (*heads, "Nonzero", "Training", "Seeds"):
        view.add_column(heading, justify="right")
    for entry in results["means"]:
        metrics = entry["metrics"]
        view.add_row(
            marked(entry),
            target_text(entry),
            f"{metrics['sparsity']['mean']:.3%}",
            *(eer_text(metrics, name) for name in sets),
            spread_text(metrics["min_dcf"], ".3f"),
            f"{metrics['nonzero']['mean']:,.0f}",
            f"{metrics['seconds']['mean']:,.0f} s",
            str(len(entry["seeds"])),
        )
    out.print(view)
    _show_differences(results)
    for sentence in lost(results):
        out.print(f"\n{sentence}", markup=False, soft_wrap=True)
    for row in results["tuning"]:
        out.print(f"\n{tuning_text(row)}", markup=False)


def _show_differences(results: Results) -> None:
    """What each method's EER is beside that of dense training or, without it, of the first."""
    against = next(iter(references(results)), None)
    if against is None:
        return
    tests = list(dict.fromkeys(row["test"] for row in results["differences"]))
    view = Table(box=None, pad_edge=False)
    view.add_column(f"Against {against}")
    for heading in ("Target", *(f"EER {test}, points" for test in tests)):
        view.add_column(heading, justify="right")
    for method, target, by_test in compared(results, against):
        texts = [_difference(by_test.get(test)) for test in tests]
        view.add_row(method, "–" if target is None else target.text, *texts)
    out.print()
    out.print(view)
    if note := left_out(results):
        out.print(note, markup=False, soft_wrap=True)


def _difference(row: Row | None) -> Text:
    if row is None:
        return Text("–")
    return Text(difference_text(row), style="bold" if is_clear(row) else "")
