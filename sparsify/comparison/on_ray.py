"""Runs the commands of a comparison on a Ray cluster: each is a task, wherever there is room.

The machines share the folder of the comparison, through which everything goes: commands write their
runs and logs there as they do locally. The functions at the end are those that the workers run; so
that a worker needs neither memory nor time for it, this file imports no torch.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Any

from sparsify.comparison.executor import PATIENCE, LostError, Order
from sparsify.errors import SparsifyError
from sparsify.runtimes import import_runtime
from sparsify.texts import signal_name

_POLL = 0.1  # seconds
_OVERDUE = 2 * PATIENCE  # seconds after which a worker does not keep to its patience
_ENDED_BY_A_SIGNAL = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # as programs say it themselves
_SAME = ("sparsify-speaker", "torch")  # packages that decide what comes out
_CPUS = 2  # per run, if there are enough: small networks gain little from more
_LEASHED = "sparsify.comparison.leashed"


@dataclass(frozen=True)
class Machine:
    """What a machine of the cluster offers."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Home:
    """What every machine must have that takes part.

    Attributes:
        folder: The current one, where relative paths begin.
        proof: A file in the folder of the comparison.
        token: What is in it.
        versions: Of packages, by name.
    """

    folder: str
    proof: str
    token: str
    versions: dict[str, str]


@contextmanager
def ray_cluster(runs: int, jobs: int | None, *, gpu: bool | None) -> Iterator[RayCluster]:
    """The cluster that RAY_ADDRESS names, or the one that this machine belongs to.

    Args:
        runs: How many there are in all.
        jobs: Runs at a time; `None` for as many as there is room for now.
        gpu: Whether a run needs a GPU; `None` if it takes one where the cluster has some.

    Raises:
        SparsifyError: Ray is not installed, or there is no cluster.
    """
    ray: Any = import_runtime("ray", "ray")
    address = os.environ.get("RAY_ADDRESS") or "auto"
    # Ray prints what goes wrong on the output that is for results.
    with redirect_stdout(sys.stderr):
        try:
            ray.init(address, log_to_driver=False, configure_logging=False)
        except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
            raise SparsifyError(
                f"no Ray cluster at '{address}' ({error}): start one with 'ray start --head', or"
                " say in RAY_ADDRESS where it is"
            ) from error
        try:
            yield RayCluster(ray, runs, jobs, gpu)
        finally:
            ray.shutdown()


def shares(
    machines: Sequence[Machine], runs: int, jobs: int | None, *, gpu: bool
) -> tuple[int, int]:
    """Runs at a time, and the CPUs of each.

    Without `jobs` there is a run for every GPU, or for every two CPUs. The CPUs are shared as
    evenly as on one machine, but so that a run fits on any of them.

    Args:
        machines: Those that can take runs.
        runs: How many there are in all.
        jobs: How many at a time, if that is given.
        gpu: Whether each takes a GPU.
    """

    def room(cpus: int) -> int:
        places = (each.cpus // cpus for each in machines)
        return sum(
            min(place, each.gpus) if gpu else place
            for place, each in zip(places, machines, strict=True)
        )

    if jobs is None:
        most = room(1) if gpu else sum(max(1, each.cpus // _CPUS) for each in machines)
        jobs = max(1, min(runs, most))
    least = min((each.cpus for each in machines), default=1)
    return jobs, max((cpus for cpus in range(1, least + 1) if room(cpus) >= jobs), default=1)


class RayCluster:
    """A Ray cluster that this process is connected to; see `ray_cluster`."""

    def __init__(self, ray: Any, runs: int, jobs: int | None, gpu: bool | None) -> None:
        self._ray = ray
        self._nodes = [
            node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        ]
        machines = [
            Machine(*(int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU")))
            for node in self._nodes
        ]
        if gpu is None:
            gpu = any(machine.gpus for machine in machines)
        suitable = [each for each in machines if each.gpus or not gpu]
        self.jobs, cpus = shares(suitable, runs, jobs, gpu=gpu)
        self._threads = os.environ.get("OMP_NUM_THREADS", str(cpus))
        self._needs = {"num_cpus": cpus, "num_gpus": int(gpu), "max_retries": 0}
        self._home: Home | None = None

    def check(self, folder: Path) -> None:
        """Checks that every machine sees the folder, and has the versions that this one has.

        Raises:
            SparsifyError: One does not.
        """
        proof, token = folder / "ray", secrets.token_hex()
        proof.write_text(token)
        versions = {name: version(name) for name in _SAME}
        self._home = Home(str(Path.cwd()), str(proof.absolute()), token, versions)
        on = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        check = self._ray.remote(num_cpus=0, max_retries=0)(check_machine)
        answers = [
            check.options(scheduling_strategy=on(node["NodeID"], soft=False)).remote(self._home)
            for node in self._nodes
        ]
        for answer in answers:
            with contextlib.suppress(LostError):  # one machine fewer
                self.answered(answer)

    def start(self, order: Order, slot: int) -> Task:
        """Runs a command where there is room."""
        paths = [str(path.absolute()) for path in (order.printed, order.log)]
        size = order.log.stat().st_size
        task = self._ray.remote(**self._needs)(carry)
        code = task.remote(self._home, list(order.arguments), *paths, self._threads)
        return Task(self, code, order.log, size)

    def answered(self, answer: Any) -> Any:
        """What a worker has answered.

        Raises:
            SparsifyError: It refuses, or cannot understand the question.
            LostError: It has ended, or its machine has.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(answer)
        except errors.TaskCancelledError as error:
            raise LostError("was cancelled") from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, SparsifyError):
                raise error.cause from error
            ours = " and ".join(f"{name} {version(name)}" for name in _SAME)
            raise SparsifyError(
                f"a machine of the cluster cannot run commands ({error.cause}): install {ours} in"
                " the Python that its Ray runs in"
            ) from error
        except errors.RayError as error:
            raise LostError(f"has lost its worker ({type(error).__name__})") from error

    def has_answered(self, answer: Any) -> bool:
        """Whether `answered` has something to say."""
        ready, _ = self._ray.wait([answer], timeout=0)
        return bool(ready)

    def cancel(self, answer: Any, *, force: bool) -> None:
        """Ends a task, by an interruption or by force."""
        self._ray.cancel(answer, force=force)


class Task:
    """A command that some worker runs, or will.

    Args:
        cluster: That of the worker.
        answer: What becomes of it.
        log: Of the command.
        size: Of the log before the command adds to it.
    """

    def __init__(self, cluster: RayCluster, answer: Any, log: Path, size: int) -> None:
        self._cluster = cluster
        self._answer = answer
        self._log = log
        self._size = size

    @property
    def began(self) -> bool:
        """Whether a worker has it, which then writes into the log."""
        return self._log.stat().st_size > self._size

    def code(self) -> int | None:
        """Its exit code.

        Raises:
            LostError: Its worker, its machine, or the process itself was ended.
            SparsifyError: The machine cannot take part.
        """
        if not self._cluster.has_answered(self._answer):
            return None
        code: int = self._cluster.answered(self._answer)
        if code < 0 or code in _ENDED_BY_A_SIGNAL:
            raise LostError(f"was ended by {signal_name(-code if code < 0 else code - 128)}")
        return code

    def interrupt(self) -> None:
        """Asks it to end."""
        self._cluster.cancel(self._answer, force=False)

    def end(self) -> None:
        """Waits until it has ended, and makes sure that it does."""
        overdue = time.monotonic() + _OVERDUE
        while not self._cluster.has_answered(self._answer):
            if time.monotonic() > overdue:
                self._cluster.cancel(self._answer, force=True)
                return
            time.sleep(_POLL)


def check_machine(home: Home) -> None:
    """On a worker: checks that a command finds here what it would find at home.

    Raises:
        SparsifyError: It would not.
    """
    for name, wanted in home.versions.items():
        if (found := version(name)) != wanted:
            raise SparsifyError(
                f"{gethostname()} has {name} {found} instead of {wanted}: install the same version"
                " on all machines"
            )
    proof = Path(home.proof)
    try:
        usable = proof.read_text("utf-8") == home.token and os.access(proof, os.W_OK)
    except OSError:
        usable = False
    if not usable or not Path(home.folder).is_dir():
        raise SparsifyError(
            f"{gethostname()} cannot work in '{home.folder if usable else proof.parents[1]}': all"
            " machines need the same folders at the same paths, and to be allowed to write there"
        )


def carry(home: Home, arguments: list[str], printed: str, log: str, threads: str) -> int:
    """On a worker: runs a command, and returns its exit code.

    Args:
        home: What must be here.
        arguments: After `sparsify`.
        printed: The file for its standard output.
        log: The file for what else it says.
        threads: For OMP_NUM_THREADS.

    Raises:
        SparsifyError: The command cannot be run here.
    """
    check_machine(home)
    with open(printed, "wb") as out, open(log, "ab", buffering=0) as said:
        said.write(f"On {gethostname()}\n".encode())
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _LEASHED, str(os.getpid()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=said,
            cwd=home.folder,
            env=os.environ | {"OMP_NUM_THREADS": threads},
            start_new_session=True,
        )
    try:
        while (code := process.poll()) is None:
            time.sleep(_POLL)
    except KeyboardInterrupt:  # how Ray cancels
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise
    return code
