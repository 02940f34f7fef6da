"""What a person sees of a training run: a header, a live line, and a line per validation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sparsify.sparsity.table import dense_in_words
from sparsify.training.trainer import Observer

Record = dict[str, Any]

_COMPILING = "compiling the network (up to a minute)"
_TRAINING = "training"


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

    def started(self, header: Record, first_step: int) -> None:
        """Prints the header."""
        print_header(self.console, header, first_step)
        if header["compiled"]:
            self.console.print(_COMPILING, markup=False)

    def logged(self, record: Record) -> None:
        """Prints the record."""
        self.console.print(record_text(record), markup=False)

    def averaged(self, record: Record) -> None:
        """Prints the average."""
        self.console.print(describe_average(record), markup=False)


class LiveDisplay(Observer):
    """Header, a progress bar over the latest figures, and a line that stays per validation."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self.figures: Record = {}
        self.task = self.progress.add_task("")
        self.live = Live(console=console, transient=True)

    def started(self, header: Record, first_step: int) -> None:
        """Prints the header and starts the bar."""
        print_header(self.console, header, first_step)
        description = _COMPILING if header["compiled"] else _TRAINING
        self.progress.reset(
            self.task, total=header["steps"], completed=first_step, description=description
        )
        self.live.start()
        self.live.update(self.progress)

    def stepped(self, step: int) -> None:
        """Moves the bar."""
        self.progress.update(self.task, completed=step, description=_TRAINING)

    def logged(self, record: Record) -> None:
        """Updates the figures; a validation leaves a line."""
        self.figures |= record
        self.live.update(Group(self.progress, Text(record_text(self.figures, live=True))))
        if "eer_percent" in record:
            self.console.print(record_text(record), markup=False)

    def averaged(self, record: Record) -> None:
        """Leaves a line."""
        self.console.print(describe_average(record), markup=False)


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


def record_text(record: Record, *, live: bool = False) -> str:
    """A record as one line; the live line goes without what the bar shows."""
    parts = [] if live else [f"step {record['step']:>6}"]
    parts.append(f"loss {record['loss']:.3f}")
    if record["accuracy"] is not None:
        parts.append(f"accuracy {record['accuracy']:.1%}")
    if "distillation" in record:
        parts.append(f"distillation {record['distillation']:.3f}")
    parts.append(f"sparsity {record['sparsity']:.2%}")
    if "macs" in record:
        parts.append(f"MACs {record['macs']:.2%}")
    if record["lambda"] is not None:
        parts.append(f"λ {record['lambda']:.4g}")
    if "eer_percent" in record:
        mark = " *" if record["selected"] and not live else ""
        parts.append(f"{_error_rates(record)}{mark}")
    return "  ".join(parts)


def describe_average(record: Record) -> str:
    """The average of several models as one line."""
    mark = " *" if record["selected"] else ""
    return f"{averaged_models(record)}  {_error_rates(record)}{mark}"


def averaged_models(record: Record) -> str:
    """How many models were averaged, and when they were validated."""
    steps = record["steps"]
    return f"average of {len(steps)} models (steps {steps[0]:,} to {steps[-1]:,})"


def _error_rates(record: Record) -> str:
    corrupted = record.get("corrupted_eer_percent")
    noisy = "" if corrupted is None else f", corrupted {corrupted:.2f} %"
    return f"EER {record['eer_percent']:.2f} %{noisy}"
