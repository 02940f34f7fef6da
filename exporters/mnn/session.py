"""Graphs run by MNN."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.audio.parallel import available_cores
from sparsify.errors import SparsifyError, first_line, refused
from sparsify.exporters.mnn.graph import read_graph
from sparsify.exporters.networks import Network
from sparsify.runtimes import import_runtime

_STDOUT = 1
_MOST_PRINTED = 1 << 16  # bytes
_C_LIBRARY = ctypes.CDLL(None)
# What MNN's binding raises; where it forgets to say why, Python itself complains.
_MNN_ERRORS = (SystemError, RuntimeError, ValueError, TypeError, LookupError, MemoryError)
_PROBE = (
    "import sys, MNN.expr as F, MNN.nn as nn;"
    "nn.load_module_from_file(sys.argv[1], [], []).onForward("
    "[F.const([0.0] * 100 * int(sys.argv[2]), [1, 100, int(sys.argv[2])])])"
)


def mnn() -> ModuleType:
    """The package MNN, which prints what the processor can do when it is imported.

    Raises:
        SparsifyError: It is not installed.
    """
    with _Prints().caught():
        return import_runtime("MNN", "mnn")


def mnn_network(
    path: Path,
    bins: int = 80,
    threads: int | None = None,
    *,
    trusted: bool,
) -> Network:
    """A network in MNN, on the CPU.

    Args:
        path: A `.mnn` file with one input, features `(B, T, bins)`, whose first output is the
            embeddings `(B, D)`.
        bins: Filterbank bins per frame.
        threads: Threads per call; one per core by default.
        trusted: Whether the file is known to be as it was written. Of any other, a run in another
            process tells whether MNN survives it.

    Raises:
        SparsifyError: MNN is not installed or cannot load the file, or its input is something else.
    """
    runtime = mnn()
    shapes = read_graph(path).input_shapes
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] not in (bins, -1):
        described = ", ".join(str(list(shape)) for shape in shapes)
        raise SparsifyError(
            f"'{path}' cannot embed features: its input must be [B, T, {bins}], not"
            f" {described or 'nothing'}"
        )
    if not trusted:
        probe(path, bins)
    prints = _Prints()
    try:
        with prints.caught():
            settings = {"backend": "CPU", "numThread": threads or available_cores()}
            manager = runtime.nn.create_runtime_manager((settings,))
            graph = runtime.nn.load_module_from_file(str(path), [], [], runtime_manager=manager)
    except _MNN_ERRORS as error:
        raise SparsifyError(f"MNN cannot load '{path}': {prints.reason(error)}") from error

    def embed(feats: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with prints.caught():
                given = runtime.expr.placeholder(
                    list(feats.shape), runtime.expr.NCHW, runtime.expr.float
                )
                given.write(np.ascontiguousarray(feats))
                outputs = graph.onForward([given])
                embeddings: Any = outputs[0].read() if outputs else None
        except _MNN_ERRORS as error:
            raise refused(str(path), feats.shape, RuntimeError(prints.reason(error))) from error
        if embeddings is None:
            raise refused(str(path), feats.shape, RuntimeError(prints.reason()))
        if embeddings.ndim != 2 or len(embeddings) != len(feats) or embeddings.dtype != np.float32:
            raise SparsifyError(
                f"'{path}' does not embed utterances: features {feats.shape} gave"
                f" {embeddings.dtype} {embeddings.shape}, not float32 ({len(feats)}, D)"
            )
        return embeddings.copy()

    return embed


def probe(path: Path, bins: int) -> None:
    """Runs a file in another process, whose crash is only an error here.

    Args:
        path: A `.mnn` file with one input, features.
        bins: Filterbank bins per frame.

    Raises:
        SparsifyError: MNN crashes on it.
    """
    command = [sys.executable, "-P", "-c", _PROBE, str(path.resolve()), str(bins)]
    ended = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if ended.returncode < 0:  # by a signal; other errors come again where they can be explained
        raise SparsifyError(f"'{path}' is damaged: MNN crashes on it")


class _Prints:
    """What MNN prints, which would end up among our results."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - as long as the network

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keeps what is printed within."""
        self._file.seek(0)
        self._file.truncate()
        sys.stdout.flush()
        stdout = os.dup(_STDOUT)
        os.dup2(self._file.fileno(), _STDOUT)
        try:
            yield
        finally:
            _C_LIBRARY.fflush(None)
            os.dup2(stdout, _STDOUT)
            os.close(stdout)

    def reason(self, error: Exception | None = None) -> str:
        """What was printed last, but for a number; if nothing was, what an error says."""
        self._file.seek(0)
        text = self._file.read(_MOST_PRINTED).decode("utf-8", "replace")
        lines = [each.strip() for each in text.splitlines()]
        told = [each for each in lines if each and not each.startswith("code=")]
        return told[-1] if told else first_line(error) if error else "it does not say why"
