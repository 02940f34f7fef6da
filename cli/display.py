"""Where the output of every command goes.

Results go to stdout (`out`, `emit_json`), everything else to stderr (`console`, logging, `track`).
"""

from __future__ import annotations

import io
import logging
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar

import click
from rich.console import Console
from rich.text import Text
from rich.theme import Theme

T = TypeVar("T")

# Besides what steers a terminal, what has no width or turns the direction of writing.
_CONTROLS = re.compile(
    r"[^\n\t -~\xa0-\U0010ffff]|[\ud800-\udfff\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
    r"|[\xad\u034f\u061c\u180e\ufff9-\ufffb\U000e0000-\U000e007f]"
)
PIPE_WIDTH = 160  # columns where no terminal limits them
PATIENCE = 2.0  # seconds without a sign of life where there is no terminal
PLAIN_INTERVAL = 10.0  # seconds between progress lines where there is no terminal
_json_stream: ContextVar[IO[str] | None] = ContextVar("_json_stream", default=None)


# Rich's yellow and cyan cannot be read on a light background.
_THEME = Theme(dict.fromkeys((f"progress.{name}" for name in ("elapsed", "remaining")), "none"))


class _Console(Console):
    """Shows texts as they are: names from files neither style nor steer the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A text without control characters other than line ends and tabs."""
        return super().render_str(_CONTROLS.sub("?", text), **options)


def _console(stream: TextIO, *, stderr: bool) -> Console:
    return _Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        theme=_THEME,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        width=None if stream.isatty() else PIPE_WIDTH,
    )


def _open_closed_streams() -> None:
    """What is said to a closed stream (`>&-`) is lost; no file that is opened later gets it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


_open_closed_streams()
console = _console(sys.stderr, stderr=True)
out = _console(sys.stdout, stderr=False)


class _Unread(io.FileIO):
    """A stream that loses what nobody reads any more, while the command goes on to its verdict.

    What cannot be written for another reason, such as a full disk, is an error once: Python writes
    what is left at its end, where nobody would catch another.
    """

    _failed = False

    def write(self, data: Any) -> int:
        """Writes, if somebody reads."""
        try:
            return len(data) if self._failed else super().write(data)
        except BrokenPipeError:
            return len(data)
        except OSError:
            self._failed = True
            raise


def print_on_any_console() -> None:
    """Lets streams lose what cannot be shown instead of failing.

    That is a character that the encoding lacks, such as λ, which becomes `?`, and all that comes
    after the reader of a pipe has gone, as `head` goes.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="replace")
        if stream is getattr(sys, f"__{name}__"):
            raw = _Unread(stream.fileno(), "w", closefd=False)
            patient = io.TextIOWrapper(
                io.BufferedWriter(raw),
                stream.encoding,
                errors="replace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, patient)


class GateError(click.ClickException):
    """A gate such as `--min-sparsity` was not passed: the result stands, the exit code is 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Prints the sentence to stderr."""
        sentence = styled(f"Failed: {self.format_message()}")
        sentence.stylize("bold red", 0, len("Failed"))
        screen = _console(sys.stderr, stderr=True)
        screen.print(sentence, soft_wrap=not screen.is_terminal)


@contextmanager
def json_alone() -> Iterator[None]:
    """In the block stdout has what `emit_json` prints alone; what others print is on stderr."""
    token = _json_stream.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _json_stream.reset(token)


def emit_json(result: Mapping[str, Any]) -> None:
    """Prints one JSON object to stdout."""
    from sparsify.documents import to_json  # noqa: PLC0415 - keeps `sparsify --help` fast

    click.echo(to_json(result, indent=2), file=_json_stream.get())


def styled(text: str, style: str = "") -> Text:
    """A text in a style that, like all that is shown, does not steer the terminal."""
    return Text(_CONTROLS.sub("?", text), style)


def say(text: str, style: str = "") -> None:
    """A sentence of the result: whole words to a line of a terminal, one line elsewhere."""
    out.print(styled(text, style), soft_wrap=not out.is_terminal)


def say_next(*words: str | Path) -> None:
    """The command of sparsify that one would try next; it is not a part of the result."""
    console.print(f"Next: {shlex.join(['sparsify', *map(str, words)])}", soft_wrap=True)


def ratio_text(ratio: float) -> str:
    """How many times one thing is another, so that a small number is none of 0.00."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def human_bytes(size: int) -> str:
    """A size in decimal units, such as `1.5 MB`."""
    value, units = float(size), ["TB", "GB", "MB", "kB"]
    if value < 1000:
        return f"{size} B"
    value, unit = value / 1000, units.pop()
    while value >= 999.5 and units:
        value, unit = value / 1000, units.pop()
    return f"{value:.3g} {unit}"


def track(items: Iterable[T], description: str, total: int) -> Iterable[T]:
    """A `sparsify.progress.Track`: a bar on a terminal, sparse lines elsewhere, silent with -q."""
    if console.quiet:
        return items
    if not console.is_terminal:
        return _lines(items, description, total)
    from sparsify.cli.bars import bar  # noqa: PLC0415 - keeps `sparsify --help` fast

    return bar(console, items, description, total)


def _lines(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    start = last = time.monotonic()
    beginning = threading.Timer(PATIENCE, console.print, (f"{description} …",), {"markup": False})
    beginning.daemon = True
    if context := click.get_current_context(silent=True):  # an error leaves this suspended
        context.call_on_close(beginning.cancel)
    beginning.start()
    try:
        for done, item in enumerate(items):
            now = time.monotonic()
            if now - last >= PLAIN_INTERVAL:
                last = now
                remaining = f", {(now - start) * (total - done) / done:.0f} s left" if done else ""
                console.print(f"{description}: {done}/{total}{remaining}", markup=False)
            yield item
    finally:
        beginning.cancel()
    elapsed = time.monotonic() - start
    if elapsed >= 1:
        parts = f"{total} in " if total > 1 else ""
        console.print(f"{description}: {parts}{elapsed:.0f} s", markup=False)


class _StderrHandler(logging.Handler):
    """One plain line per record; `sys.stderr` is looked up late, so bars and tests can wrap it.

    What a command has warned of once it does not say again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = _CONTROLS.sub("?", record.getMessage())
        line = f"{record.levelname.capitalize()}: {message}"
        if record.levelno >= logging.WARNING:
            if line in self.said:
                return
            self.said.add(line)
        print(line, file=sys.stderr)


_HANDLER = _StderrHandler()


def configure_logging(level: int) -> None:
    """Shows what the library logs at this level and above."""
    logger = logging.getLogger("sparsify")
    logger.setLevel(level)
    _HANDLER.said.clear()
    logger.addHandler(_HANDLER)  # adding it twice has no effect
