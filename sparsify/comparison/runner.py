"""Carries a plan out: several processes at a time, and only what has not been done yet.

Every command runs in a process of its own, so that a run that fails, or that the system kills,
takes no other with it. A command leaves a file when it succeeds; a comparison that was stopped
finds these files and goes on.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch

from sparsify.audio.parallel import available_cores
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
from sparsify.comparison.plan import Plan
from sparsify.documents import MOST_JSON_BYTES, parse_json, read_text
from sparsify.errors import SparsifyError
from sparsify.files import holds_alone
from sparsify.training.devices import Device

logger = logging.getLogger(__name__)

# -P: what lies in the current folder must not stand in for an installed module.
PROGRAM = (sys.executable, "-P", "-m", "sparsify")
_POLL = 0.2  # seconds
_PATIENCE = 20.0  # seconds a process has to end when it is asked to
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
        error: Why it failed.
    """

    cell: Cell
    steps: int
    state: str = "waiting"
    doing: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
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
    jobs: int,
    device: Device = "auto",
    measure_latency: bool = False,
    trust: bool = False,
    watch: Watch = ignore,
) -> dict[str, str]:
    """Trains and evaluates what is missing.

    Args:
        plan: What to do.
        output: Folder of the comparison.
        jobs: Processes at a time; they share the cores of this process, and its GPUs in turn.
        device: For the trainings.
        measure_latency: Measure the latency of one model per method and target once all are
            trained, one at a time.
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
        runner.work(jobs, lambda cell: missing_commands(plan, cell, output, device, trust=trust))
        if measure_latency:
            trained = [each for each in runner.progress if each.state != "failed"]
            first = {each.cell.label: each for each in reversed(trained)}
            runner.work(1, lambda cell: latency_command(plan, cell, output), list(first.values()))
    return {each.cell.name: each.error for each in runner.progress if each.state == "failed"}


class _Runner:
    """Processes at work, each on the commands of one run."""

    def __init__(self, plan: Plan, output: Path, lock: IO[str], watch: Watch) -> None:
        steps = plan.recipe.training.steps
        self.progress = [Progress(cell, steps) for cell in plan.runs]
        self.output = output
        self.lock = lock
        self.watch = watch
        self.gpus = visible_gpus()

    def work(
        self,
        jobs: int,
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
                for slot in range(jobs):
                    if slot not in active and waiting:
                        progress = waiting.pop(0)
                        environment = _environment(slot, jobs, self.gpus)
                        active[slot] = _Run(progress, missing(progress.cell), environment, self)
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
    """A run at work: one process after the other."""

    def __init__(
        self,
        progress: Progress,
        commands: Iterator[Command],
        environment: Mapping[str, str],
        runner: _Runner,
    ) -> None:
        self.progress = progress
        self.commands = commands
        self.environment = environment
        self.lock = runner.lock
        self.log = runner.output / LOGS / f"{progress.cell.name}.log"
        self.printed = self.log.with_suffix(".json")
        self.metrics = runner.output / RUNS / progress.cell.name / "metrics.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        self.command: Command | None = None
        self.said_before = 0  # bytes in the log when the process was started
        self._next()

    def goes_on(self) -> bool:
        """Looks after the process; false once the run is done or has failed."""
        if self.process is None:
            return False
        code = self.process.poll()
        self.progress.record = _last_record(self.metrics) or self.progress.record
        if code is None:
            return True
        assert self.command is not None
        said = self.log.read_bytes()[self.said_before :].decode("utf-8", errors="replace")
        for warning in dict.fromkeys(_told(said, "Warning: ")):
            logger.warning("%s: %s", self.progress.cell.name, warning)
        if code != 0 and not self._collapsed(code):
            during = "" if self.command.doing == TRAINING else f"{self.command.doing}: "
            self._fail(during + _reason(said, self.log, code))
            return False
        try:
            self.command.keep(_printed(self.printed))
        except SparsifyError as error:
            self._fail(str(error))
            return False
        self._next()
        return self.process is not None

    def _collapsed(self, code: int) -> bool:
        """Whether a training has ended, with a model that the summary says to have collapsed."""
        assert self.command is not None
        if code != 1 or self.command.doing != TRAINING:
            return False
        try:
            return bool(_printed(self.printed).get("collapsed"))
        except SparsifyError:  # it failed otherwise, and printed nothing
            return False

    def interrupt(self) -> None:
        """Asks the process to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Waits until the process has ended, and makes sure that it does."""
        if self.process is not None:
            try:
                self.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self._forget_print()

    def _next(self) -> None:
        self._forget_print()
        try:
            self.command = next(self.commands, None)
        except SparsifyError as error:  # a damaged file of this run
            self.process = None
            self._fail(str(error))
            return
        if self.command is None:
            self.process = None
            self.progress.state = "done"
            return
        self.progress.state, self.progress.doing = "running", self.command.doing
        with self.printed.open("wb") as out, self.log.open("ab") as log:
            self.said_before = log.tell()
            self.process = subprocess.Popen(
                [*PROGRAM, *self.command.arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=self.environment,
                # Ctrl-C reaches this process alone, which then asks the others to end.
                start_new_session=True,
                # While a process that was left behind lives, so does the lock.
                pass_fds=[self.lock.fileno()],
            )

    def _fail(self, why: str) -> None:
        self.progress.state, self.progress.error = "failed", why
        self._forget_print()

    def _forget_print(self) -> None:
        self.printed.unlink(missing_ok=True)


def _environment(slot: int, jobs: int, gpus: Sequence[str]) -> dict[str, str]:
    """The variables of a process that has its share of the cores, and one of the GPUs."""
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // jobs)))
    if jobs > 1 and gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return environment


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each for each in named.split(",") if each]
    return [str(index) for index in range(torch.cuda.device_count())]


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


def _printed(file: Path) -> Any:
    """The JSON object that a command of ours has printed."""
    content = parse_json(read_text(file, MOST_JSON_BYTES), "what it printed")
    if not isinstance(content, dict):
        raise SparsifyError("what it printed is no JSON object")
    return content


def _reason(said: str, log: Path, code: int) -> str:
    """The sentence that a failed command ended with."""
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}, see {log}"
    told = [*_told(said, "Failed: "), *_told(said, "Error: ")]
    return f"{told[-1]} ({log})" if told else f"exit code {code}, see {log}"


def _told(said: str, level: str) -> list[str]:
    """The lines of a log that begin in a certain way, without their beginning."""
    lines = (line for line in said.splitlines() if line.startswith(level))
    return [line.removeprefix(level) for line in lines]
