"""What benchmarks measure with: time in turns, kernels, waits for the device, bandwidth, memory.

On a GPU the host only queues work, so that times are those of the device's own events there.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

Action = Callable[[], object]

_RESAMPLES = 2000
_WARNING = "synchronizing CUDA operation"


def is_cuda(device: str | torch.device) -> bool:
    """Whether a device is a GPU."""
    return torch.device(device).type == "cuda"


def synchronize(device: str | torch.device) -> None:
    """Waits until a device has done all its work."""
    if is_cuda(device):
        torch.cuda.synchronize(device)


class Marks:
    """Moments in the work of a device, without waiting for it.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: str | torch.device) -> None:
        self._device = torch.device(device)
        self._marks: list[tuple[str, Any]] = []

    def __call__(self, name: str) -> None:
        """What is done from now to the next mark has this name."""
        moment: Any = time.perf_counter()
        if is_cuda(self._device):
            moment = torch.cuda.Event(enable_timing=True)
            moment.record(torch.cuda.current_stream(self._device))
        self._marks.append((name, moment))

    def milliseconds(self) -> dict[str, float]:
        """Milliseconds under each name up to the last mark; starts anew. Waits for the device."""
        synchronize(self._device)
        sums: dict[str, float] = {}
        for (name, start), (_, end) in zip(self._marks, self._marks[1:], strict=False):
            cuda = is_cuda(self._device)
            elapsed = start.elapsed_time(end) if cuda else 1000 * (end - start)
            sums[name] = sums.get(name, 0.0) + elapsed
        self._marks = []
        return sums


def milliseconds(action: Action, device: str | torch.device, repeat: int = 1) -> float:
    """Milliseconds of one call, on average over some that follow each other."""
    marks = Marks(device)
    synchronize(device)
    marks("action")
    for _ in range(repeat):
        action()
    marks("end")
    return marks.milliseconds()["action"] / repeat


def in_turns(
    actions: Sequence[Action], rounds: int, device: str | torch.device, repeat: int = 1
) -> list[list[float]]:
    """Milliseconds of a call of every action in every round.

    They take turns, so that a busy moment of the machine hits them all.
    """
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, measured in zip(actions, times, strict=True):
            measured.append(milliseconds(action, device, repeat))
    return times


def median_ms(action: Action, device: str | torch.device, rounds: int = 9) -> float:
    """Median milliseconds of a call."""
    return float(np.median(in_turns([action], rounds, device)[0]))


@dataclass(frozen=True)
class Ratio:
    """How many times as long something takes as its baseline.

    Attributes:
        median: Over the rounds, in each of which both were measured.
        low: Lower end of the bootstrap interval of 95 %.
        high: Upper end.
    """

    median: float
    low: float
    high: float

    def fields(self, name: str = "ratio") -> dict[str, float]:
        """As fields of a row."""
        values = {name: self.median, f"{name}_low": self.low, f"{name}_high": self.high}
        return {key: round(value, 3) for key, value in values.items()}


def paired_ratio(times: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """The ratio of times measured in the same rounds as a baseline's.

    Raises:
        ValueError: There are not as many times as of the baseline, or none.
    """
    if not times or len(times) != len(baseline):
        raise ValueError(f"{len(times)} times do not pair with {len(baseline)} of the baseline")
    ratios = np.asarray(times) / np.asarray(baseline)
    drawn = np.random.default_rng(0).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high))


def bandwidth(size: int, device: str | torch.device, rounds: int = 21) -> float:
    """Best GB/s of adding float32 tensors of a size, two reads and one write for each."""
    a, b, out = (torch.ones(size, device=device) for _ in range(3))
    times = in_turns([lambda: torch.add(a, b, out=out)], rounds, device, repeat=4)[0]
    return 3 * 4 * size / min(times) / 1e6


def peak_extra_bytes(action: Action, device: str | torch.device) -> float:
    """The most memory that a call holds beyond what is there before it; NaN where unknown."""
    if is_cuda(device):
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        return torch.cuda.max_memory_allocated(device) - before
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        return float("nan")
    peak.write_text("5")  # makes the kernel count the peak anew
    resident = _status_kib("VmRSS")
    action()
    return 1024 * (_status_kib("VmHWM") - resident)


def _status_kib(key: str) -> int:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def waits(action: Action) -> list[str]:
    """Where the host waits for a GPU in a call, as `file:line`, once for every time.

    Torch does not know of every operation that waits; `activity` counts those of the driver.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            action()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    found = [warning for warning in caught if _WARNING in str(warning.message)]
    return [f"{Path(warning.filename).name}:{warning.lineno}" for warning in found]


def activity(action: Action, device: str | torch.device) -> dict[str, float]:
    """What a GPU and its driver do in a call, see `activity_of`.

    Raises:
        RuntimeError: The profiler sees no kernels.
    """
    _start_profiler()
    found = activity_of(_profiled(action, device))
    if not found["kernels"]:
        raise RuntimeError("the profiler has seen no kernel: CUPTI may be missing or not allowed")
    return found


def activity_of(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """What the events of a profiler's trace amount to.

    Returns:
        `kernels` (launches), `kernel_ms` (their time on the device), `copies` (of memory, and
        settings of it) and `stream_waits` (the host waiting for a stream).
    """
    counts = {"kernels": 0, "kernel_ms": 0.0, "copies": 0, "stream_waits": 0}
    for event in events:
        category = event.get("cat")
        if category == "kernel":
            counts["kernels"] += 1
            counts["kernel_ms"] += event["dur"] / 1000
        elif category in ("gpu_memcpy", "gpu_memset"):
            counts["copies"] += 1
        elif category == "cuda_runtime" and event["name"] == "cudaStreamSynchronize":
            counts["stream_waits"] += 1
    return counts


@cache
def _start_profiler() -> None:
    """The first trace of a process may miss what runs while the profiler starts."""
    _profiled(lambda: torch.ones(1, device="cuda"), "cuda")


def _profiled(action: Action, device: str | torch.device) -> list[dict[str, Any]]:
    synchronize(device)
    with torch.profiler.profile() as profiler:
        action()
        synchronize(device)
    with TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["traceEvents"]
    return events
