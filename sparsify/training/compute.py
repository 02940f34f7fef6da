"""Where and how precisely a run computes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

from sparsify.errors import SparsifyError


@dataclass(frozen=True)
class Compute:
    """A device and a precision.

    Attributes:
        device: Where the network lives.
        bf16: Whether convolutions and products run in bfloat16 under autocast.
        threads: Threads of one operation on the CPU.
    """

    device: torch.device
    bf16: bool
    threads: int

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    @property
    def precision(self) -> str:
        """`bf16` or `fp32`."""
        return "bf16" if self.bf16 else "fp32"

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
        isa = torch.backends.cpu.get_cpu_capability()
        return f"{self.device.type} ({isa}), {self.threads} threads, {self.precision}"


def choose_compute(
    device: Literal["auto", "cpu", "cuda"], precision: Literal["auto", "fp32", "bf16"]
) -> Compute:
    """Picks device and precision, and prepares this process for sparse training.

    Denormal floats, which sparse training produces in plenty, are flushed to zero. The flag belongs
    to a thread, so it is set here, before the first parallel operation starts its threads.

    Raises:
        SparsifyError: A GPU is asked for and there is none.
    """
    torch.set_flush_denormal(True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if "OMP_NUM_THREADS" not in os.environ and cores:
        torch.set_num_threads(cores)
    if device == "cuda" and not torch.cuda.is_available():
        raise SparsifyError("no CUDA device was found: use --device cpu or auto")
    use_cuda = device != "cpu" and torch.cuda.is_available()
    if precision == "auto":
        bf16 = torch.cuda.is_bf16_supported() if use_cuda else _fast_bf16_on_cpu()
    else:
        bf16 = precision == "bf16"
    return Compute(torch.device("cuda" if use_cuda else "cpu"), bf16, torch.get_num_threads())


def _fast_bf16_on_cpu() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; without, bf16 is slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
