"""What a person sees of a training run: a header, a live line, and a line per validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import mean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sparsify.cli.bars import Roomy, room
from sparsify.sparsity.table import dense_in_words
from sparsify.training.observer import Observer

Record = dict[str, Any]

FIRST_FIGURE = "loss "  # begins every record in words
_COMPILING = "compiling the network (up to a minute)"
_TRAINING = "training"
_GRAPHS = ("loss", "sparsity", "λ")  # what is drawn while it trains
_HEIGHTS = {True: "▁▂▃▄▅▆▇█", False: "_.-=+*%#"}  # by whether the terminal knows Unicode
_NAMES, _FIGURES = 9, 9  # letters beside a graph
_WIDEST = 60  # letters of a graph


@contextmanager
def training_display(console: Console) -> Iterator[Observer]:
    """An observer that writes to a console: live on a terminal, plain lines elsewhere."""
    if console.quiet:
        yield Observer()
    elif console.is_terminal:
        display = LiveDisplay(console)
        try:
            yield display
        finally:
            display.live.stop()
    else:
        yield PlainDisplay(console)


class PlainDisplay(Observer):
    """Header, and one line per record."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.step = 0

    def started(self, header: Record, first_step: int) -> None:
        """Prints the header."""
        self.step = first_step
        print_header(self.console, header, first_step)
        if header["compiled"]:
            self.console.print(_COMPILING, markup=False)

    def stepped(self, step: int) -> None:
        """Remembers it."""
        self.step = step

    def began(self, phase: str) -> None:
        """Prints what the log waits for."""
        self.console.print(f"step {self.step:>6}  {phase}", markup=False)

    def logged(self, record: Record) -> None:
        """Prints the record."""
        self.console.print(record_text(record), markup=False)

    def averaged(self, record: Record) -> None:
        """Prints the average."""
        self.console.print(describe_average(record), markup=False)


class LiveDisplay(Observer):
    """Header, a bar over the phase and graphs of what was logged, and a line per validation."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn(_TRAINING),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self.phase = Progress(
            SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn()
        )
        self.figures: Record = {}
        self.curves: dict[str, list[float]] = {name: [] for name in _GRAPHS}
        self.task = self.progress.add_task("")
        self.live = Live(console=console, transient=True)

    def started(self, header: Record, first_step: int) -> None:
        """Prints the header and starts the bar."""
        print_header(self.console, header, first_step)
        self.progress.reset(self.task, total=header["steps"], completed=first_step)
        if header["compiled"]:
            self.began(_COMPILING)
        self.live.start()
        self._show()

    def stepped(self, step: int) -> None:
        """Moves the bar."""
        self.progress.update(self.task, completed=step)
        self._end_phase()

    def began(self, phase: str) -> None:
        """Starts a clock for the phase."""
        self._end_phase()
        self.phase.add_task(phase, total=None)

    def logged(self, record: Record) -> None:
        """Updates the figures; a validation leaves a line."""
        self.figures |= record
        for name, value in zip(_GRAPHS, _drawn(record), strict=True):
            if value is not None:
                self.curves[name].append(value)
        self._show()
        if "eer_percent" in record:
            self.console.print(record_text(record), markup=False)

    def averaged(self, record: Record) -> None:
        """Leaves a line."""
        self.console.print(describe_average(record), markup=False)

    def _end_phase(self) -> None:
        for task in self.phase.task_ids:
            self.phase.remove_task(task)

    def _show(self) -> None:
        parts: list[Progress | Text] = [self.progress, self.phase]
        if self.figures:
            texts = _texts(self.figures)
            letters = min(room(self.console) - _NAMES - _FIGURES - 1, _WIDEST)
            heights = _HEIGHTS[self.console.encoding.startswith("utf")]
            parts += [
                Text.assemble(
                    f"{name:<{_NAMES}}",
                    (sparkline(values, letters, heights), "blue"),
                    (f" {texts.pop(name):>{_FIGURES}}", "bold"),
                )
                for name, values in self.curves.items()
                if values
            ]
            parts.append(Text("  ".join(f"{name} {text}" for name, text in texts.items())))
        self.live.update(Roomy(Group(*parts)))


def named_speakers(found: Record) -> str:
    """How many speakers are trained on, as far as anybody knows."""
    return f"{found['speakers']} speakers" if found["speakers"] else "unknown speakers"


def _validated(header: Record) -> str:
    speakers, trials = header["validation_speakers"], header["validation_trials"]
    return f"{speakers} others, {trials:,} trials" if speakers else f"a list of {trials:,} trials"


def print_header(console: Console, header: Record, first_step: int) -> None:
    """What is trained on what, where and how precisely."""
    options = ", ".join(f"{key} {value}" for key, value in header["model_options"].items())
    compiled = ", compiled" if header["compiled"] else ""
    together = f" in {header['processes']} processes" if header["processes"] > 1 else ""
    lines = [
        f"{header['method']} to {_target(header)} on {header['compute']}{compiled}{together}",
        f"{header['model']} ({options}): {header['parameters']:,} parameters,"
        f" {header['prunable']:,} prunable",
        f"{header['data']}: {named_speakers(header)}, {header['utterances']:,} utterances,"
        f" {header['hours']:.2f} h; validation on {_validated(header)}",
    ]
    if header["left_dense"]:
        lines.insert(2, dense_in_words(header["left_dense"]))
    if start := header.get("start"):
        lines.insert(1, start_in_words(start))
    if header["skipped"]:
        lines.append(f"{header['skipped']} files skipped (-v lists them, --strict refuses them)")
    if first_step:
        lines.append(f"resumed after step {first_step}")
    for line in lines:
        console.print(line, markup=False)


def start_in_words(start: Record) -> str:
    """The trained model that a run starts from, and what becomes of its zeros."""
    path, zeros = start["path"], f"{start['sparsity']:.2%} zeros"
    if not start["sparsity"]:
        return f"from '{path}', which is dense"
    fates = {
        "held": f"its {zeros} are held to the end",
        "kept": f"its {zeros} stay, and others join them",
        "revived": f"of its {zeros}, more than are wanted, some come back",
    }
    return f"from '{path}': {fates[start['zeros']]}"


def _target(header: Record) -> str:
    if "target_macs" in header:
        return f"{header['target_macs']:.2%} of the multiply-adds"
    return f"{header['target_sparsity']:.2%} sparsity"


def sparkline(values: Sequence[float], width: int, heights: str) -> str:
    """Values as a row of small columns, means of neighbours where there are more than fit.

    Args:
        values: From the first.
        width: Letters at most; fewer values take fewer.
        heights: Letters from the lowest to the highest.
    """
    count = min(len(values), width)
    ends = [len(values) * place // count for place in range(count + 1)] if count > 0 else []
    means = [mean(values[start:end]) for start, end in pairwise(ends)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    scale = (len(heights) - 1) / (high - low) if high > low else 0.0
    return "".join(heights[round((value - low) * scale)] for value in means)


def record_text(record: Record, *, live: bool = False) -> str:
    """A record as one line; the live line goes without what the bar shows."""
    parts = [] if live else [f"step {record['step']:>6}"]
    parts += [f"{name} {text}" for name, text in _texts(record).items()]
    mark = " *" if record.get("selected") and not live else ""
    return f"{'  '.join(parts)}{mark}"


def _drawn(record: Record) -> tuple[float | None, ...]:
    """The values of `_GRAPHS`."""
    return record["loss"], record["sparsity"], record["lambda"]


def _texts(record: Record) -> dict[str, str]:
    """The figures of a record in words, by their names."""
    texts = {"loss": f"{record['loss']:.3f}"}
    if record["accuracy"] is not None:
        texts["accuracy"] = f"{record['accuracy']:.1%}"
    if "distillation" in record:
        texts["distillation"] = f"{record['distillation']:.3f}"
    texts["sparsity"] = f"{record['sparsity']:.2%}"
    if "macs" in record:
        texts["MACs"] = f"{record['macs']:.2%}"
    if record["lambda"] is not None:
        texts["λ"] = f"{record['lambda']:.4g}"
    if "eer_percent" in record:
        texts["EER"] = _error_rates(record)
    return texts


def describe_average(record: Record) -> str:
    """The average of several models as one line."""
    mark = " *" if record["selected"] else ""
    return f"{averaged_models(record)}  EER {_error_rates(record)}{mark}"


def averaged_models(record: Record) -> str:
    """How many models were averaged, and when they were validated."""
    steps = record["steps"]
    return f"average of {len(steps)} models (steps {steps[0]:,} to {steps[-1]:,})"


def _error_rates(record: Record) -> str:
    corrupted = record.get("corrupted_eer_percent")
    noisy = "" if corrupted is None else f", corrupted {corrupted:.2f}%"
    return f"{record['eer_percent']:.2f}%{noisy}"
