"""The steps of the Bregman optimizers as compiled code for the CPU, `kernels.c`.

The code is compiled for this processor at its first use, see `compiled_code`.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import re
import subprocess
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsify import compiled_code
from sparsify.optim.selection import Bins, Histogram
from sparsify.optim.state import Slot

logger = logging.getLogger(__name__)

_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
_TYPES = {
    torch.float32: ("-DREAL=float", "-DBITS=uint32_t"),
    torch.float64: ("-DREAL=double", "-DBITS=uint64_t"),
}
_LAYOUTS = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)
_POINTERS = ("weight", "gradient", "dual", "mask", "first", "second", "steps")
_ROW = np.dtype([*((name, np.uintp) for name in _POINTERS), ("size", np.int64)])  # `Slot` in C
_SOURCE = resources.files("sparsify.optim").joinpath("kernels.c").read_text("utf-8")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_STRUCT = re.compile(r"struct\s*\{((?:\s*double\s+\w+(?:\s*,\s*\w+)*\s*;)+)\s*\}\s*Group\s*;")
_NO_LIMIT = -1.0


def _fields_of(source: str) -> list[str]:
    """The names in the C struct `Group`, `double lr, …;`, in their order.

    Raises:
        RuntimeError: There is something else in it, whose size would not be known here.
    """
    declared = _STRUCT.search(_COMMENT.sub(" ", source))
    if declared is None:
        raise RuntimeError("kernels.c must declare Group, with nothing but 'double name, name;'")
    return [name for name in re.findall(r"\w+", declared[1]) if name != "double"]


class _Group(ctypes.Structure):
    """What the parameters of a group share, as the C code declares it."""

    __slots__ = ()  # a name that is no field is an error
    _fields_ = [(name, ctypes.c_double) for name in _fields_of(_SOURCE)]


def fits(tensor: Tensor) -> bool:
    """Whether there is compiled code for such tensors on this machine."""
    if tensor.device.type != "cpu" or tensor.dtype not in _TYPES or tensor.is_neg():
        return False
    if _layout(tensor) is None:
        _log_slow("a weight or its state has gaps or is transposed: make it contiguous()")
        return False
    return _library(tensor.dtype) is not None


def table_for(slots: Sequence[Slot]) -> Table | None:
    """The addresses of slots, if there is compiled code for all of them together."""
    dtype, layouts = slots[0].weight.dtype, []
    for slot in slots:
        tensors = [t for t in (slot.weight, slot.dual, slot.first, slot.second) if t is not None]
        if not all(t.dtype == dtype and fits(t) for t in tensors):
            return None
        layout = _layout(slot.weight)
        laid_out = [*tensors, *([] if slot.mask is None else [slot.mask])]
        if any(t.shape != slot.weight.shape for t in laid_out):
            raise ValueError("a weight has a state of another shape")
        if layout is None or not all(t.is_contiguous(memory_format=layout) for t in laid_out):
            _log_slow("a weight and its state differ in their layout: load the state anew")
            return None
        layouts.append(layout)
    return Table(slots, layouts)


class Table:
    """The addresses of weights and their state, which `table_for` has examined.

    They must be what they were when it was made, see `StepPlan.holds_for`.

    Attributes:
        nonzero: How many weights were not zero after the last pass, if they followed their duals.
    """

    def __init__(self, slots: Sequence[Slot], layouts: Sequence[torch.memory_format]) -> None:
        self.nonzero: int | None = None
        self._weights = [slot.weight for slot in slots]
        self._layouts = layouts
        self._rows = _rows(self._weights, "weight")
        for name in ("dual", "mask", "first", "second", "steps"):
            tensors = [getattr(slot, name) for slot in slots]
            self._rows[name] = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]

    def step(
        self,
        gradients: Sequence[Tensor],
        hyper: dict[str, Any],
        limit: float | None,
    ) -> None:
        """Moves duals and weights along the gradients, in one pass over memory.

        Args:
            gradients: One for each weight.
            hyper: The hyperparameters, those of `Group` in `kernels.c`; what is not given is 0.
            limit: λ of the soft threshold, or `None` where weights do not follow their duals yet.

        Raises:
            AttributeError: The C code does not know a hyperparameter.
        """
        dtype = self._weights[0].dtype
        laid_out = [  # alive during the pass
            gradient
            if gradient.dtype is dtype
            and gradient.is_contiguous(memory_format=layout)
            and not (gradient.is_neg() or gradient._is_zerotensor())  # not yet what it stands for
            else torch.empty_like(weight).copy_(gradient)
            for gradient, weight, layout in zip(
                gradients, self._weights, self._layouts, strict=True
            )
        ]
        self._rows["gradient"] = [gradient.data_ptr() for gradient in laid_out]
        group = _Group(**_spread(hyper), limit=_NO_LIMIT if limit is None else limit)
        nonzero = self._write("step", group)
        self.nonzero = None if limit is None else nonzero

    def prox(self, delta: float, limit: float) -> None:
        """The weights from their duals, `w = δ·S_limit(v)`."""
        self.nonzero = self._write("prox", _Group(delta=delta, limit=limit))

    def _write(self, name: str, group: _Group) -> int:
        nonzero = _call(name, self._weights[0], self._rows, ctypes.byref(group))
        torch.autograd.graph.increment_version(self._weights)
        return nonzero


def count_nonzero(weights: Sequence[Tensor]) -> int:
    """The number of weights that are not zero; all of one type."""
    return _call("count_nonzero", weights[0], _rows(weights, "weight"))


def dual_histogram(duals: Sequence[Tensor], scale: float) -> Histogram:
    """Counts entries of `|dual|/scale`; see `sparsify.optim.selection`."""
    rows = _rows(duals, "dual")

    def histogram(bins: Bins) -> Tensor:
        count = 1 << bins.count_log2
        counts = torch.zeros(count + 2, dtype=torch.int64)
        interval = (int(bins.start), bins.width_log2, count)
        if not _call("histogram", duals[0], rows, scale, *interval, counts.data_ptr()):
            raise MemoryError("no memory for a histogram of the duals")
        return counts

    return histogram


def _spread(hyper: dict[str, Any]) -> dict[str, Any]:
    """Hyperparameters by their names in C, where `betas` are `beta1` and `beta2`."""
    betas = {f"beta{number}": beta for number, beta in enumerate(hyper.get("betas", ()), 1)}
    return {name: value for name, value in hyper.items() if name != "betas"} | betas


def _layout(tensor: Tensor) -> torch.memory_format | None:
    """In which order a tensor without gaps lies in memory; `None` if there are gaps."""
    return next((each for each in _LAYOUTS if tensor.is_contiguous(memory_format=each)), None)


@functools.cache
def _log_slow(reason: str) -> None:
    """Once, and not in every step."""
    logger.warning("optimizer steps are slower, %s", reason)


def _rows(tensors: Sequence[Tensor], name: str) -> NDArray[np.void]:
    rows = np.zeros(len(tensors), _ROW)
    rows[name] = [tensor.data_ptr() for tensor in tensors]
    rows["size"] = [tensor.numel() for tensor in tensors]
    return rows


def _call(name: str, tensor: Tensor, rows: NDArray[np.void], *arguments: Any) -> Any:
    library = _library(tensor.dtype)
    assert library is not None  # `fits` was asked
    table = (rows.ctypes.data, len(rows), torch.get_num_threads())
    return getattr(library, name)(*table, *arguments)


@functools.cache
def _library(dtype: torch.dtype) -> Any:
    """The code for one type of weights, or `None`, logged, where it cannot be had.

    Raises:
        RuntimeError: It takes another `Group` than is written here.
    """
    try:
        library = compiled_code.library("kernels", _SOURCE, [*_FLAGS, *_TYPES[dtype]])
        table = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int)
        library.step.argtypes = library.prox.argtypes = (*table, ctypes.POINTER(_Group))
        library.count_nonzero.argtypes = table
        for function in (library.step, library.prox, library.count_nonzero):
            function.restype = ctypes.c_int64
        bins = (ctypes.c_int64, ctypes.c_int, ctypes.c_int64)
        library.histogram.argtypes = (*table, ctypes.c_double, *bins, ctypes.c_void_p)
        size = ctypes.c_int64.in_dll(library, "group_size").value
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as error:
        reason = " ".join((getattr(error, "stderr", None) or str(error)).split())[:300]
        logger.warning("optimizer steps are slower, their C code cannot be had: %s", reason)
        return None
    if size != ctypes.sizeof(_Group):
        raise RuntimeError("compiled.py misreads Group in kernels.c: their sizes differ")
    return library
