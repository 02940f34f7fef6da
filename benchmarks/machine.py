"""The machine that something was measured on."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime
import torch

from sparsify.audio.parallel import available_cores

_CPU_INFO = Path("/proc/cpuinfo")
# What engines have kernels for, as Linux calls it, and as people do.
_INSTRUCTIONS = {
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_fp16": "AVX-512 FP16",
    "amx_int8": "AMX INT8",
    "amx_bf16": "AMX BF16",
    "asimd": "NEON",
    "asimdhp": "FP16",
    "asimddp": "DOTPROD",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
    "sve2": "SVE2",
    "sme": "SME",
}


def command_line() -> str:
    """What was called, for the results."""
    return shlex.join(["python", *sys.orig_argv[1:]])


@dataclass(frozen=True)
class Machine:
    """Where something was measured; times mean nothing elsewhere.

    Attributes:
        cpu: Model name of the processor.
        isa: The vector instructions it has, such as `AVX2, FMA, AVX-512`.
        cores: Cores this process may use.
        python: Version.
        torch: Version.
        onnxruntime: Version.
        engines: Versions of the other engines that took part, by name.
    """

    cpu: str
    isa: str
    cores: int
    python: str
    torch: str
    onnxruntime: str
    engines: Mapping[str, str] = field(default_factory=dict)


def describe_machine(engines: Mapping[str, str] | None = None) -> Machine:
    """The processor and the versions that times depend on."""
    return Machine(
        cpu=_cpu_info("model name") or platform.processor() or platform.machine(),
        isa=_instructions(),
        cores=available_cores(),
        python=platform.python_version(),
        torch=torch.__version__,
        onnxruntime=onnxruntime.__version__,
        engines=dict(engines or {}),
    )


def _instructions() -> str:
    flags = (_cpu_info("flags") or _cpu_info("Features")).split()
    known = [name for flag, name in _INSTRUCTIONS.items() if flag in flags]
    return ", ".join(known) or str(torch.backends.cpu.get_cpu_capability())


def _cpu_info(key: str) -> str:
    """A line of what Linux says of the first core, empty if there is none."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text("utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""
