"""The bar that shows on a terminal how far a phase is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import click
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.text import Text

T = TypeVar("T")


class Clock(ProgressColumn):
    """The time that is left; until that is known, and in the end, the time that it has taken."""

    max_refresh = 0.5  # seconds, so that it can be read

    def render(self, task: Task) -> Text:
        """Such as `0:00:12 left`."""
        left = None if task.finished else task.time_remaining
        time = timedelta(seconds=int((task.elapsed or 0) if left is None else left))
        return Text(f"{time}" if left is None else f"{time} left")


class Bars(Progress):
    """Bars that leave room for `^C`, see `Roomy`."""

    def get_renderable(self) -> RenderableType:
        """The bars, in fewer columns than there are."""
        return Roomy(super().get_renderable())


@dataclass(frozen=True)
class Roomy:
    """What moves on a terminal, with room for the `^C` that is written at its end.

    Where that does not fit, it begins another line, and one line is never cleared.
    """

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The content in fewer columns."""
        yield from console.render(self.content, options.update(max_width=room(console)))


def room(console: Console) -> int:
    """The columns of a terminal that are left for what moves."""
    return console.width - len("^C")


def bar(console: Console, items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """The items, unchanged, while a bar shows how many of them were taken.

    Args:
        console: A terminal.
        items: As many as `total`.
        description: What is done with them.
        total: Their number; one is a phase without parts.
    """
    parts: tuple[ProgressColumn, ...] = (BarColumn(), MofNCompleteColumn())
    with Bars(
        TextColumn("{task.description}"),
        *(parts if total > 1 else (SpinnerColumn("line"),)),
        Clock(),
        console=console,
        transient=True,
    ) as progress:
        # An error leaves this generator suspended; the command's end still gives the cursor back.
        click.get_current_context().call_on_close(progress.stop)
        yield from progress.track(items, total=total, description=description)
