"""What a person sees of a comparison: bars while it is at work, then tables."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column as Place
from rich.text import Text

from sparsify.cli.bars import Bars, room
from sparsify.cli.display import out, say
from sparsify.cli.tables import Column, fitted
from sparsify.cli.training_display import FIRST_FIGURE, record_text
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
from sparsify.texts import shortened

INTERVAL = 30.0  # seconds between lines where there is no terminal
_COMFORTABLE = 80  # columns of a terminal with room for long bars
_TIMES = 23  # columns of both times, the word between them and the gaps
_STEP = re.compile(r"^step +\d+ +")  # begins a line of a training
_STEPS = 11  # columns of `10000/50000`


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
        self.told: dict[str, str] = {}

    def watch(self, runs: Sequence[RunProgress]) -> None:
        """Prints what is new."""
        self.events.tell(runs)
        if time.monotonic() - self.last >= INTERVAL:
            self.last = time.monotonic()
            for run in runs:
                if run.state == "running" and run.said:
                    name, figures = run.cell.name, _figures(run)
                    if self.told.get(name) != figures:  # a log has no use for a line twice
                        self.console.print(f"{name}: {figures}", markup=False)
                    self.told[name] = figures


class LiveComparison:
    """Events above a bar for all steps of all runs, and one for each run at work."""

    def __init__(self, console: Console, title: str) -> None:
        self.title = title
        self.events = Events(console)
        bar = 12 if console.width >= _COMFORTABLE else 4
        self.room = room(console) - bar - _TIMES  # for a name and its details
        # Where the terminal is narrow, there are fewer details.
        whole = Place(no_wrap=True, min_width=7)
        details = Place(no_wrap=True, overflow="ellipsis", ratio=1)
        self.progress = Bars(
            TextColumn("{task.description}", markup=False, table_column=whole),
            BarColumn(bar, table_column=Place(min_width=bar)),
            TimeElapsedColumn(table_column=whole),
            TextColumn("left", table_column=Place(no_wrap=True, min_width=4)),
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
                short = shortened(name, self.room - _STEPS)
                self.tasks[name] = self.progress.add_task(short, total=run.steps, detail="")
            shown = [task.description for task in self.progress.tasks]
            detail = _first_parts(_figures(run), self.room - max(map(len, shown)))
            self.progress.update(self.tasks[name], completed=run.step, detail=detail)


def _first_parts(text: str, room: int) -> str:
    """As many of the figures as there is room for, none of them cut."""
    parts = text.split("  ")
    while len(parts) > 1 and len("  ".join(parts)) > room:
        parts.pop()
    return "  ".join(parts)


def _figures(run: RunProgress) -> str:
    """Where a run stands: its figures, or what it does meanwhile."""
    if run.doing != TRAINING:
        return f"{run.doing}: {run.said}" if run.said else run.doing
    phase = _STEP.sub("", run.said)
    if run.record and (not phase or phase.startswith(FIRST_FIGURE)):
        return f"{run.step}/{run.steps}  {record_text(dict(run.record), live=True)}"
    return phase or "starting"


def show_results(results: Results) -> None:
    """Prints the means over seeds, the differences, and what was tuned."""
    sets, means = evaluation_sets(results), results["means"]
    metrics = [entry["metrics"] for entry in means]
    best = min((each["eer_percent"]["mean"] for each in metrics), default=None)
    styles = ["bold" if each["eer_percent"]["mean"] == best else "" for each in metrics]
    rates = [
        Column(
            f"EER {title} %",
            _styled([eer_text(each, name) for each in metrics], styles if not number else []),
            rank=number,
        )
        for number, (name, title) in enumerate(sets.items())
    ]
    last = len(sets)
    seconds = [f"{each['seconds']['mean']:,.0f} s" for each in metrics]
    out.print(
        fitted(
            [
                Column("Method", [marked(entry) for entry in means], left=True, name=True),
                Column("Target", [target_text(entry) for entry in means]),
                Column("Sparsity", [f"{each['sparsity']['mean']:.3%}" for each in metrics], last),
                *rates,
                Column("minDCF", [spread_text(each["min_dcf"], ".3f") for each in metrics], last),
                Column("Nonzero", [f"{e['nonzero']['mean']:,.0f}" for e in metrics], last + 1),
                Column("Training", seconds, last + 2),
                Column("Seeds", [str(len(entry["seeds"])) for entry in means], last + 3),
            ]
        )
    )
    _show_differences(results)
    for sentence in lost(results):
        say(f"\n{sentence}", "bold red")
    for row in results["tuning"]:
        say(f"\n{tuning_text(row)}")


def _styled(texts: Sequence[str], styles: Sequence[str]) -> list[Text]:
    """Texts in their styles, as far as they have one."""
    return [Text(text, style) for text, style in zip_longest(texts, styles, fillvalue="")]


def _show_differences(results: Results) -> None:
    """What each method's EER is beside that of dense training or, without it, of the first."""
    against = next(iter(references(results)), None)
    if against is None:
        return
    tests = list(dict.fromkeys(row["test"] for row in results["differences"]))
    rows = compared(results, against)
    # The mean of all test sets, which comes last, is the one to keep.
    columns = [
        Column(
            f"EER {test}, points",
            [_difference(by_test.get(test)) for *_, by_test in rows],
            rank=0 if test == tests[-1] else number + 1,
        )
        for number, test in enumerate(tests)
    ]
    targets = ["–" if target is None else target.text for _, target, _ in rows]
    out.print()
    out.print(
        fitted(
            [
                Column(f"Against {against}", [each[0] for each in rows], left=True, name=True),
                Column("Target", targets),
                *columns,
            ]
        )
    )
    if note := left_out(results):
        say(note)


def _difference(row: Row | None) -> Text:
    if row is None:
        return Text("–")
    return Text(difference_text(row), style="bold" if is_clear(row) else "")
