"""Runs the commands of a comparison on this machine, as processes that share its cores and GPUs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from sparsify.audio.parallel import available_cores
from sparsify.comparison.executor import PATIENCE, Order
from sparsify.training.devices import Device

# -P: what lies in the current folder must not stand in for an installed module.
PROGRAM = (sys.executable, "-P", "-m", "sparsify")


class Processes:
    """Several processes at a time.

    Args:
        jobs: How many; they share the cores of this process, and its GPUs in turn.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._gpus = visible_gpus()

    def check(self, folder: Path) -> None:
        """Nothing can be missing that this process has."""

    def start(self, order: Order, slot: int) -> Process:
        """Runs a command with its share of the cores, and on one of the GPUs."""
        return Process(order, environment(slot, self.jobs, self._gpus))


class Process:
    """A command at work."""

    began = True

    def __init__(self, order: Order, environment: dict[str, str]) -> None:
        with order.printed.open("wb") as out, order.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, *order.arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environment,
                # Ctrl-C reaches this process alone, which then asks the others to end.
                start_new_session=True,
                # While a process that was left behind lives, so does the lock.
                pass_fds=[order.lock.fileno()],
            )

    def code(self) -> int | None:
        """Its exit code, or the negative number of the signal that ended it."""
        return self._process.poll()

    def interrupt(self) -> None:
        """Asks it to end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Waits until it has ended, and makes sure that it does."""
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def default_jobs(runs: int, device: Device) -> int:
    """Small networks gain little from a second core, and processes share nothing."""
    gpus = [] if device == "cpu" else visible_gpus()
    return max(1, min(runs, len(gpus) or available_cores() // 2))


def environment(slot: int, jobs: int, gpus: Sequence[str]) -> dict[str, str]:
    """The variables of a process that has its share of the cores, and one of the GPUs."""
    variables = dict(os.environ)
    variables.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // jobs)))
    if jobs > 1 and gpus:
        variables["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return variables


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each for each in named.split(",") if each]
    return [str(index) for index in range(torch.cuda.device_count())]
