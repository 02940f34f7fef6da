"""Carries a plan out: several commands at a time, and only what has not been done yet.

Every command runs in a process of its own, so that a run that fails, or that the system kills,
takes no other with it. A command leaves a file when it succeeds; a comparison that was stopped
finds these files and goes on.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sparsify.comparison.cells import Cell
from sparsify.comparison.commands import (
    LOGS,
    RUNS,
    TRAINING,
    Command,
    check_recipe,
    latency_command,
    missing_commands,
)
from sparsify.comparison.executor import Executor, LostError, Order, Work
from sparsify.comparison.plan import Plan
from sparsify.comparison.processes import Processes
from sparsify.documents import MOST_JSON_BYTES, parse_json, read_text
from sparsify.errors import SparsifyError
from sparsify.files import holds_alone, locked
from sparsify.texts import signal_name
from sparsify.training.devices import Device
from sparsify.training.run_directory import RunDirectory

logger = logging.getLogger(__name__)

_POLL = 0.2  # seconds
_LOSSES = 3  # without getting any further
_ASIDE = ("Warning: ", "Error: ", "Info: ", "On ")  # lines of a log about something else
_TAIL = 4096  # bytes, more than a record of the metrics


@dataclass
class Progress:
    """Where one run stands.

    Attributes:
        cell: Which run.
        steps: Optimizer steps in all.
        state: `waiting`, `running`, `done` or `failed`.
        doing: What it is busy with.
        record: The latest record of its metrics.
        said: The last line that the command at work has logged.
        error: Why it failed.
    """

    cell: Cell
    steps: int
    state: str = "waiting"
    doing: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""
    error: str = ""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.steps if self.state in ("done", "failed") else int(self.record.get("step", 0))


Watch = Callable[[Sequence[Progress]], None]


def ignore(_: Sequence[Progress]) -> None:
    """Watches nothing."""


def carry_out(
    plan: Plan,
    output: Path,
    *,
    executor: Executor,
    device: Device = "auto",
    measure_latency: bool = False,
    trust: bool = False,
    watch: Watch = ignore,
) -> dict[str, str]:
    """Trains and evaluates what is missing.

    Args:
        plan: What to do.
        output: Folder of the comparison.
        executor: Runs the commands.
        device: For the trainings.
        measure_latency: Measure the latency of one model per method and target once all are
            trained, one at a time and all on this machine.
        trust: Whether the file of a teacher may name code as its network.
        watch: Called several times a second with the progress of all runs.

    Returns:
        What went wrong, by the name of the run.

    Raises:
        SparsifyError: A run directory holds another recipe, or somebody else works here.
    """
    (output / RUNS).mkdir(parents=True, exist_ok=True)
    for cell in plan.runs:
        check_recipe(plan, cell, output)
    with alone(output) as lock:
        runner = _Runner(plan, output, lock, watch)
        runner.work(
            executor, lambda cell: missing_commands(plan, cell, output, device, trust=trust)
        )
        if measure_latency:
            trained = [each for each in runner.progress if each.state != "failed"]
            first = {each.cell.label: each for each in reversed(trained)}
            among = list(first.values())
            runner.work(Processes(1), lambda cell: latency_command(plan, cell, output), among)
    return {each.cell.name: each.error for each in runner.progress if each.state == "failed"}


class _Runner:
    """Commands at work, each of another run."""

    def __init__(self, plan: Plan, output: Path, lock: IO[str], watch: Watch) -> None:
        steps = plan.recipe.training.steps
        self.progress = [Progress(cell, steps) for cell in plan.runs]
        self.output = output
        self.lock = lock
        self.watch = watch

    def work(
        self,
        executor: Executor,
        missing: Callable[[Cell], Iterator[Command]],
        among: Sequence[Progress] | None = None,
    ) -> None:
        """Runs the missing commands of all runs, or of some."""
        waiting = list(self.progress if among is None else among)
        for each in waiting:
            each.state = "waiting"
        active: dict[int, _Run] = {}
        try:
            while waiting or active:
                for slot in range(executor.jobs):
                    if slot not in active and waiting:
                        active[slot] = _Run(waiting.pop(0), missing, executor, slot, self)
                active = {slot: run for slot, run in active.items() if run.goes_on()}
                self.watch(self.progress)
                if active:
                    time.sleep(_POLL)
        finally:
            for run in active.values():
                run.interrupt()
            for run in active.values():
                run.end()


class _Run:
    """A run at work: one command after the other."""

    def __init__(
        self,
        progress: Progress,
        missing: Callable[[Cell], Iterator[Command]],
        executor: Executor,
        slot: int,
        runner: _Runner,
    ) -> None:
        self.progress = progress
        self.missing = missing
        self.executor = executor
        self.slot = slot
        self.lock = runner.lock
        self.log = runner.output / LOGS / f"{progress.cell.name}.log"
        self.printed = self.log.with_suffix(".json")
        self.directory = RunDirectory(runner.output / RUNS / progress.cell.name)
        self.work: Work | None = None
        self.command: Command | None = None
        self.said_before = 0  # bytes in the log when the command was started
        self.losses: Counter[tuple[str, int]] = Counter()
        self.commands: Iterator[Command] = iter(())

    def goes_on(self) -> bool:
        """Looks after the command; false once the run is done or has failed."""
        try:
            self._look()
        except LostError as error:
            self._lose(str(error))
        except SparsifyError as error:
            self._fail(str(error))
        return self.progress.state not in ("done", "failed")

    def _look(self) -> None:
        if self.work is None or self.command is None:  # at the beginning, or lost
            if not self.losses or self._is_free():
                self.commands = self.missing(self.progress.cell)
                self._next()
            return
        code = self.work.code()
        self._show(self.work, self.command)
        if code is None:
            return
        said = self.log.read_bytes()[self.said_before :].decode("utf-8", errors="replace")
        for warning in dict.fromkeys(_told(said, "Warning: ")):
            logger.warning("%s: %s", self.progress.cell.name, warning)
        if code != 0 and not self._collapsed(code):
            during = "" if self.command.doing == TRAINING else f"{self.command.doing}: "
            self._fail(during + _reason(said, self.log, code))
            return
        self.command.keep(_printed(self.printed))
        self._next()

    def _collapsed(self, code: int) -> bool:
        """Whether a training has ended, with a model that the summary says to have collapsed."""
        if code != 1 or self.command is None or self.command.doing != TRAINING:
            return False
        try:
            return bool(_printed(self.printed).get("collapsed"))
        except SparsifyError:  # it failed otherwise, and printed nothing
            return False

    def interrupt(self) -> None:
        """Asks the command to end."""
        if self.work is not None:
            self.work.interrupt()

    def end(self) -> None:
        """Waits until the command has ended, and makes sure that it does."""
        if self.work is not None:
            self.work.end()
        self._forget()

    def _next(self) -> None:
        self._forget()
        self.command = next(self.commands, None)
        if self.command is None:
            self.progress.state = "done"
            return
        self.printed.touch()
        self.log.touch()
        self.said_before = self.log.stat().st_size
        order = Order(self.command.arguments, self.printed, self.log, self.lock)
        self.work = self.executor.start(order, self.slot)
        self._show(self.work, self.command)

    def _show(self, work: Work, command: Command) -> None:
        """Where the run stands: at what it did before, until the next has begun."""
        if work.began:
            self.progress.state, self.progress.doing = "running", command.doing
        record = _last_record(self.directory.metrics_file)
        self.progress.record = record or self.progress.record
        self.progress.said = _last_line(self.log, self.said_before)

    def _lose(self, why: str) -> None:
        """Has the run go on from its last checkpoint, unless it gets no further in this way."""
        assert self.command is not None
        place = (self.command.doing, _changed(self.directory.checkpoint_file))
        self.losses[place] += 1
        if self.losses[place] == _LOSSES:
            self._fail(f"{why}, for the third time at the same place, see {self.log}")
            return
        losses = self.losses.total()  # without it, all but the first warning would be the same
        again = "again" if losses == 1 else f"again (loss {losses})"
        logger.warning("%s: %s, and is started %s", self.progress.cell.name, why, again)
        self.progress.state = "waiting"
        self._forget()

    def _is_free(self) -> bool:
        """Whether a training that was lost has ended: on a machine that is cut off it goes on."""
        if not self.directory.lock_file.exists():
            return True
        with locked(self.directory.lock_file) as free:
            return free

    def _fail(self, why: str) -> None:
        self.progress.state, self.progress.error = "failed", why
        self._forget()

    def _forget(self) -> None:
        """The command that has ended, and what it printed."""
        self.work = None
        self.printed.unlink(missing_ok=True)


@contextmanager
def alone(output: Path) -> Iterator[IO[str]]:
    """Holds a lock on the folder of a comparison, together with the processes that inherit it.

    Raises:
        SparsifyError: Somebody else works there.
    """
    (output / LOGS).mkdir(parents=True, exist_ok=True)
    with (output / LOGS / "lock").open("w") as lock:
        if not holds_alone(lock, fcntl.flock):
            raise SparsifyError(
                f"another comparison, or a training that one left behind, is at work in '{output}':"
                " wait for it or end it"
            )
        yield lock


def _last_record(metrics: Path) -> Mapping[str, Any] | None:
    """The latest complete record, without reading the whole file."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - _TAIL))
            lines = file.read().split(b"\n")[:-1]
        record = parse_json(lines[-1].decode("utf-8", errors="replace"), "the record")
    except (FileNotFoundError, IndexError, SparsifyError):
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


def _last_line(log: Path, since: int) -> str:
    """The last complete line of a log after some bytes that says what is done; none without one."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - _TAIL))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return ""
    texts = (line.decode("utf-8", errors="replace") for line in reversed(lines))
    return next((text for text in texts if not text.startswith(_ASIDE)), "")


def _changed(file: Path) -> int:
    """When a file was changed last; 0 if there is none."""
    return file.stat().st_mtime_ns if file.exists() else 0


def _printed(file: Path) -> Any:
    """The JSON object that a command of ours has printed."""
    content = parse_json(read_text(file, MOST_JSON_BYTES), "what it printed")
    if not isinstance(content, dict):
        raise SparsifyError("what it printed is no JSON object")
    return content


def _reason(said: str, log: Path, code: int) -> str:
    """The sentence that a failed command ended with."""
    if code < 0:
        return f"ended by {signal_name(-code)}, see {log}"
    told = [*_told(said, "Failed: "), *_told(said, "Error: ")]
    return f"{told[-1]} ({log})" if told else f"exit code {code}, see {log}"


def _told(said: str, level: str) -> list[str]:
    """The lines of a log that begin in a certain way, without their beginning."""
    lines = (line for line in said.splitlines() if line.startswith(level))
    return [line.removeprefix(level) for line in lines]
