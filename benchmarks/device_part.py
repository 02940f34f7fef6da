"""One part of the device check, in a process of its own.

A part is a generator of rows; every row is written at once, so that a part that hangs or crashes
loses no more than the rows it has not come to.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.audio.parallel import available_cores
from sparsify.documents import to_json
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import ModelSection
from sparsify.training.devices import Device

Row = dict[str, Any]

# Name of the architecture, and the options that make a toy of it.
_NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "ECAPA-TDNN-512": (
        "ecapa-tdnn-512",
        {"channels": 8, "aggregation_channels": 8, "embedding_dim": 8},
    ),
    "ECAPA-TDNN-1024": (
        "ecapa-tdnn-1024",
        {"channels": 16, "aggregation_channels": 8, "embedding_dim": 8},
    ),
    "ResNet34": ("resnet34", {"channels": 2, "embedding_dim": 8}),
}
NETWORKS = tuple(_NETWORKS)


@dataclass(frozen=True)
class Setting:
    """Where a part measures, and how large.

    Attributes:
        device: `cpu` or `cuda`.
        toy: Whether everything is as small as possible: what comes out shows only that it works.
    """

    device: Device
    toy: bool = False

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device == "cuda"

    def network(self, name: str) -> ModelSection:
        """One of `NETWORKS`, or a tiny one of its kind."""
        architecture, toy = _NETWORKS[name]
        return ModelSection(name=architecture, options=toy if self.toy else {})


PartFunction = Callable[[Setting], Iterator[Row]]


def attempt(head: Mapping[str, Any], measure: Callable[[], Row]) -> Row:
    """A row that says what it is about and what was measured, or that this failed.

    Errors of torch, such as too little memory, and of ours are caught: the next row may succeed.
    """
    try:
        return {**head, **measure()}
    except (RuntimeError, SparsifyError) as error:
        return {**head, **failed(f"{type(error).__name__}: {error}")}


def failed(reason: str) -> Row:
    """The fields of a row that failed."""
    return {"status": "failed", "reason": " ".join(reason.split())[:500]}


def skipped(reason: str) -> Row:
    """The fields of a row that was not measured."""
    return {"status": "skipped", "reason": reason}


def goal(name: str, value: float, threshold: float) -> Row:
    """A goal, which a value meets that is not above the threshold."""
    return {"name": name, "threshold": threshold, "value": value, "passed": value <= threshold}


def machine(setting: Setting) -> Iterator[Row]:
    """One row: what everything else was measured on."""
    import torch  # noqa: PLC0415 - so that a part without torch starts at once

    cuda = torch.cuda.is_available()
    row: Row = {
        "cpu": platform.processor() or platform.machine(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "has_gpu": cuda,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
    }
    if cuda:
        properties = torch.cuda.get_device_properties(0)
        row |= {
            "gpu": properties.name,
            "gpu_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver(),
        }
    yield row


def _driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return None
    return answer.stdout.strip() or None


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a part and appends its rows to a file, one line of JSON each."""
    parser = argparse.ArgumentParser(prog="python -m sparsify.benchmarks.device_part")
    parser.add_argument("part", help="module:function")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args(arguments)
    module, _, function = options.part.partition(":")
    part: PartFunction = getattr(importlib.import_module(module), function)
    with options.rows.open("a", encoding="utf-8") as file:
        for row in part(Setting(options.device, options.toy)):
            file.write(to_json({"status": "ok"} | row) + "\n")
            file.flush()
            os.fsync(file.fileno())


if __name__ == "__main__":
    main()
