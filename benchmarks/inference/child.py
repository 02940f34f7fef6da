"""One candidate of a benchmark in a process of its own, which it is started as by `Runner`.

The first line of standard input says what to read and how, every other one how often to run it on
what; each is answered with a line. The process ends with its input, whatever it is doing.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparsify.artifact.formats import format_of
from sparsify.artifact.loading import load_artifact
from sparsify.audio.features import input_shape
from sparsify.errors import SparsifyError, first_line
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.networks import PYTORCH, Network, torch_network
from sparsify.recipe.sections import FrontEnd, OwnFrontEnd

_HIGHEST = Path("/proc/self/clear_refs")  # to forget the peak: man 5 proc
_STATUS = Path("/proc/self/status")


def main() -> None:
    """Answers until there is no more input."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what engines print is no answer
    gc.disable()  # it takes a tenth of a second at any time
    try:
        for answer in _answers(_requests()):
            print(json.dumps(answer), file=answers, flush=True)
    except SparsifyError as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
    except Exception as error:  # noqa: BLE001 - the other process makes a sentence of it
        said = f"{type(error).__name__}: {first_line(error)}"
        print(json.dumps({"error": said}), file=answers, flush=True)


def _requests() -> Iterator[dict[str, Any]]:
    """What comes in; when nobody asks any more, this process ends at once."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield json.loads(lines.get())


def _answers(requests: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    # Denormals, which sparse training can leave behind, make some engines several times slower.
    torch.set_flush_denormal(True)
    make, front_end = _load(next(requests))
    idle = _resident()
    yield {"ready": True}
    feats = np.empty(0, dtype=np.float32)
    for request in requests:
        shape = (request["batch"], *input_shape(front_end, request["frames"]))
        if feats.shape != shape:
            feats = np.random.default_rng(0).normal(scale=3, size=shape).astype(np.float32)
            _forget_peak()
        times = _turn(make(), feats, request["calls"])
        _give_back()
        yield {"times": times, "peak_bytes": max(0, _peak() - idle)}


def _load(spec: Mapping[str, Any]) -> tuple[Callable[[], Network], FrontEnd]:
    """What makes the network, ready to run, and its front end."""
    path, threads = Path(spec["path"]), spec["threads"]
    torch.set_num_threads(threads)
    exporter = exporter_of(format_of(path))
    exporter.version()  # imports the engine
    artifact = load_artifact(path, trust=spec["trust"])

    own = artifact.takes_samples and spec["engine"] != PYTORCH

    def make() -> Network:
        if spec["engine"] == PYTORCH:
            return torch_network(artifact.build(), threads)
        return exporter.network(artifact, threads)

    make()  # fails before anything is measured, and imports what else is needed
    gc.collect()
    _give_back()
    front_end = artifact.front_end
    return make, OwnFrontEnd(**dict(front_end)) if own else front_end


def _turn(network: Network, feats: NDArray[np.float32], calls: int) -> list[float]:
    """Milliseconds of some calls.

    The network is new: where its memory and its threads lie makes it faster or slower for as long
    as it lives, which therefore must not be longer than a round. Two calls before, which take
    memory and find the caches cold, are not timed.
    """
    for _ in range(2):
        network(feats)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        network(feats)
        times.append(1000 * (time.perf_counter() - start))
    return times


def _give_back() -> None:
    """Returns to the system what was freed."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _forget_peak() -> None:
    """Lets the peak begin anew, where the system can."""
    if _HIGHEST.exists():
        _HIGHEST.write_text("5", "ascii")


def _resident() -> int:
    """Resident memory of this process now, in bytes."""
    _forget_peak()
    return _peak()


def _peak() -> int:
    """Largest resident memory of this process since that was forgotten, in bytes."""
    if _STATUS.exists():
        for line in _STATUS.read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else 1024 * highest


if __name__ == "__main__":
    main()
