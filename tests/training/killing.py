"""Trainings that are killed at one moment or another and resumed until they end.

`chosen FOLDER` makes, for one process and for two, a run `straight-N` and a run `killed-N` that is
killed at the moments of `CHOSEN`; `random FOLDER KILLS SEED` kills runs at random. Prints what it
did as JSON. The trainings are forked from this process, which has imported everything once. A
moment is counted, not timed: before a step, in the middle of writing a file of the run, before and
after it is put into place.
"""

import json
import os
import random
import re
import signal
import socket
import sys
import time
from pathlib import Path

import torch._dynamo  # noqa: F401 - every optimizer imports it, which takes longer than the training

import sparsify.cli.train  # noqa: F401
from sparsify.cli.main import main
from sparsify.training import trainer
from sparsify.training.learner import Learner
from sparsify.training.run_directory import RunDirectory

SETTINGS = [
    "model.options={channels: 8, aggregation_channels: 16, embedding_dim: 8}",
    "data={synthetic_speakers: 4, synthetic_utterances: 2, validation_speakers: 2}",
    "data.crop_seconds=0.4",
    "training={steps: 6, batch_size: 4, log_every: 1, validate_every: 2, workers: 0, average: 2}",
    "training.precision=fp32",
    "training.compile=false",
]
TRAIN = ["train", "--device", "cpu", "--method", "gmp", "--target-sparsity", "0.5"]
TRAIN += ["--set", "methods.gmp={begin: 0, end: 0.3, every: 1}"]
TRAIN += [part for setting in SETTINGS for part in ("--set", setting)]
# The first moment of that name since the training was started or resumed.
CHOSEN = {
    1: [
        "half recipe.yaml",
        "half last.pt",
        "moved previous.pt",
        "half a record",
        "half step-6.pt",
        "finishing",
        "half summary.json",
        "half report.html",
    ],
    2: ["step 3", "moved previous.pt"],
}
_TEMPORARY = re.compile(r"\.(.+)\.[\w-]+\.tmp(\.\w+)")
_PATIENCE = 300.0  # seconds that a process has to notice that the other one is dead


class Moments:
    """Counts the moments of a run, and kills this process at one of them.

    Args:
        output: The run directory, whose files count.
        fatal: Number or name of the last moment; `None` if all goes well.
    """

    def __init__(self, output, fatal):
        self.output, self.fatal, self.count = output, fatal, 0

    def come(self, name):
        self.count += 1
        if self.fatal in (name, self.count):
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        replace, unlink = os.replace, os.unlink
        write_bytes, write_text = Path.write_bytes, Path.write_text
        update, log, mean = Learner.update, RunDirectory.log, trainer.mean_embedding

        def name(path):
            match = _TEMPORARY.fullmatch(Path(path).name)
            return "".join(match.groups()) if match else Path(path).name

        def ours(path):
            return self.output in Path(path).parents

        def watched_replace(source, target):
            if ours(target):
                self.come(f"placing {name(target)}")
            replace(source, target)
            if ours(target):
                self.come(f"moved {name(target)}")

        def watched_unlink(path, **options):
            if ours(path) and Path(path).exists():
                self.come(f"removing {name(path)}")
            unlink(path, **options)

        def watched_write(write):
            def half_first(path, content, *arguments, **options):
                if ours(path):
                    write(path, content[: len(content) // 2], *arguments, **options)
                    self.come(f"half {name(path)}")
                return write(path, content, *arguments, **options)

            return half_first

        def watched_log(run, record):
            self.come("a record")
            before = run.metrics_file.read_text()
            with run.metrics_file.open("a") as file:
                file.write('{"step": 1, "lo')
            self.come("half a record")
            write_text(run.metrics_file, before)
            log(run, record)

        def watched_update(learner, step, batch):
            self.come(f"step {step}")
            return update(learner, step, batch)

        def watched_mean(*arguments):
            self.come("finishing")
            return mean(*arguments)

        os.replace, os.unlink = watched_replace, watched_unlink
        Path.write_bytes, Path.write_text = watched_write(write_bytes), watched_write(write_text)
        Learner.update, RunDirectory.log = watched_update, watched_log
        trainer.mean_embedding = watched_mean


def attempt(output, processes, fatal=None, rank=0):
    """Starts or resumes a training.

    Args:
        output: The run directory.
        processes: How many train together.
        fatal: Number or name of a moment; seconds, if it is a float.
        rank: Of the process that dies.

    Returns:
        Whether it has come to its end, and whether a process was killed.
    """
    begun = (output / "recipe.yaml").exists()
    arguments = [*(["train", "--resume"] if begun else TRAIN), "--output", str(output)]
    port = _free_port()
    children = []
    for each in range(processes):
        moments = Moments(output, None if isinstance(fatal, float) or each != rank else fatal)
        if not (child := os.fork()):
            _train(arguments, moments, processes, each, port)
        children.append(child)
    if isinstance(fatal, float):
        time.sleep(fatal)
        os.kill(children[rank], signal.SIGKILL)
    codes = [_code(child) for child in (children[rank], *children[:rank], *children[rank + 1 :])]
    ended = not any(codes)
    killed = codes[0] == -signal.SIGKILL
    log = (output.parent / f"{output.name}.log").read_text()
    assert ended or killed, log[-4000:]
    assert "Traceback" not in log
    assert "defect" not in log, log[-4000:]
    return ended, killed


def _train(arguments, moments, processes, rank, port):
    """Becomes one of the processes of a training; does not return."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    with moments.output.with_name(f"{moments.output.name}.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    code = 1
    try:
        moments.install()
        main(arguments, standalone_mode=True)
    except SystemExit as error:
        code = error.code or 0
    finally:
        if rank == 0:
            moments.output.with_name(f"{moments.output.name}.moments").write_text(
                str(moments.count)
            )
        sys.stderr.flush()
        os._exit(code)


def _code(child):
    """The exit code of a process, negative for a signal; kills one that does not end."""
    for _ in range(round(_PATIENCE / 0.02)):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("a process neither trains nor notices that the other one is dead")


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def straight(folder, processes):
    """A run that nobody kills; how many moments it has and how many seconds it takes."""
    output = folder / f"straight-{processes}"
    start = time.monotonic()
    assert attempt(output, processes) == (True, False)
    moments = int(output.with_name(f"{output.name}.moments").read_text())
    return moments, time.monotonic() - start


def chosen(folder, processes):
    """Kills a run at each of the chosen moments; those that never came."""
    straight(folder, processes)
    output = folder / f"killed-{processes}"
    missed = []
    for moment in CHOSEN[processes]:
        rank = processes - 1 if moment.startswith("step") else 0  # the first one writes
        ended, _ = attempt(output, processes, moment, rank)
        if ended:
            missed.append(moment)
    assert attempt(output, processes) == (True, False)
    return missed


def at_random(folder, processes, kills, seed):
    """Kills runs at so many moments, every other one by the clock; the names of the runs."""
    rng = random.Random(seed)
    moments, seconds = straight(folder, processes)
    runs = []
    while kills > 0:
        runs.append(f"random-{processes}-{len(runs)}")
        ended = False
        while not ended:
            fatal = rng.choice([rng.randint(1, moments), rng.uniform(0, seconds)])
            rank = rng.randrange(processes)
            ended, killed = attempt(folder / runs[-1], processes, fatal, rank)
            kills -= killed
    return runs


if __name__ == "__main__":
    what, folder, *numbers = sys.argv[1:]
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    if what == "chosen":
        result = {count: chosen(Path(folder), count) for count in CHOSEN}
    else:
        kills, seed = map(int, numbers)
        alone = at_random(Path(folder), 1, kills - kills // 5, seed)
        result = {"1": alone, "2": at_random(Path(folder), 2, kills // 5, seed)}
    print(json.dumps(result))
