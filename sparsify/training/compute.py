"""Where and how precisely a run computes."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from sparsify.audio.parallel import available_cores
from sparsify.errors import SparsifyError
from sparsify.training.devices import Device

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Compute:
    """A device and a precision.

    Attributes:
        device: Where the network lives.
        precision: `fp32`, or the type in which convolutions and products run under autocast.
        threads: Threads of one operation on the CPU.
    """

    device: torch.device
    precision: Precision
    threads: int

    def autocast(self) -> AbstractContextManager[object]:
        """The context of the forward pass."""
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss so that gradients in fp16 do not vanish; idle in other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def __str__(self) -> str:
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
        isa = torch.backends.cpu.get_cpu_capability()
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"{self.device.type} ({isa}), {threads}, {self.precision}"


def choose_compute(
    device: Device,
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    local_rank: int = 0,
) -> Compute:
    """Picks device and precision, and prepares this process for sparse training.

    Denormal floats, which sparse training produces in plenty, are flushed to zero. The flag belongs
    to a thread, so it is set here, before the first parallel operation starts its threads.

    Args:
        device: `auto` takes a GPU if there is one.
        precision: `auto` takes bf16 where it is computed in hardware.
        local_rank: Number of this process on the machine, which is that of its GPU.

    Raises:
        SparsifyError: A GPU is asked for and there is none, or too few of them, or fp16 without.
    """
    torch.set_flush_denormal(True)
    _keep_freed_memory()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cores())
    if device == "cuda" and not torch.cuda.is_available():
        raise SparsifyError("no CUDA device was found: use --device cpu or auto")
    use_cuda = device != "cpu" and torch.cuda.is_available()
    if use_cuda and local_rank >= torch.cuda.device_count():
        raise SparsifyError(
            f"process {local_rank + 1} of this machine finds {torch.cuda.device_count()} GPU(s):"
            " start as many processes as there are (torchrun --nproc-per-node)"
        )
    if precision == "fp16" and not use_cuda:
        raise SparsifyError("training.precision fp16 needs a GPU: take bf16 or fp32 on a CPU")
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if use_cuda else _fast_bf16_on_cpu()
        precision = "bf16" if fast else "fp32"
    chosen = torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")
    return Compute(chosen, precision, torch.get_num_threads())


def _keep_freed_memory() -> None:
    """Has glibc keep the memory that a step frees for the next step.

    By default it returns large blocks to the kernel, and faulting tens of thousands of pages in
    again takes a fifth of the time of a training step on a CPU.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of <malloc.h>
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not (mallopt(trim_threshold, 2**31 - 1) and mallopt(mmap_max, 0)):
        logger.info("this C library cannot be told to keep freed memory: steps will be slower")


def compiled(network: nn.Module, compute: Compute) -> nn.Module:
    """The network compiled for batches of one shape; shares its parameters.

    Without the C++ compiler that code for the CPU needs, the network itself, and a warning.
    """
    compiler = os.environ.get("CXX", "g++")
    if compute.device.type == "cpu" and shutil.which(compiler) is None:
        logger.warning("training is not compiled: there is no C++ compiler '%s'", compiler)
        return network
    # On a machine with a CUDA compiler but no GPU torch warns, which means nothing here.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    module: nn.Module = torch.compile(network, dynamic=False)  # type: ignore[assignment]
    return module


def _fast_bf16_on_cpu() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; without, bf16 is slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
