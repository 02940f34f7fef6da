"""Graphs run by onnxruntime."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _ort_errors

from sparsify.errors import SparsifyError, first_line, refused
from sparsify.exporters.networks import Network
from sparsify.interruption import stopped_by

# What onnxruntime says of a graph, and what its binding makes of a broken one.
_ORT_ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(_ort_errors).values() if inspect.isclass(e) and issubclass(e, Exception)),
    *(RuntimeError, ValueError, TypeError, LookupError, MemoryError),
)


def onnx_network(path: Path, bins: int = 80, threads: int | None = None) -> Network:
    """A network in onnxruntime, on the CPU.

    Args:
        path: An ONNX model with one input, features `(B, T, bins)` or samples `(B, samples)`, whose
            first output is the embeddings `(B, D)`.
        bins: Filterbank bins per frame.
        threads: Threads per call; one per core by default.

    Raises:
        SparsifyError: onnxruntime cannot load the model, or its input is something else.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4  # what is wrong becomes a sentence of ours
    # Idle threads must not spin while another network, or the caller, wants the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(
            path,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # which prints to stdout, and tries again what failed
        )
    except _ORT_ERRORS as error:
        raise SparsifyError(f"onnxruntime cannot load '{path}': {first_line(error)}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if not outputs:
        raise SparsifyError(f"'{path}' cannot embed features: it has no output")
    shape = inputs[0].shape if inputs else []
    wrong_bins = len(shape) == 3 and isinstance(shape[2], int) and shape[2] != bins
    if len(inputs) != 1 or len(shape) not in (2, 3) or wrong_bins:
        described = ", ".join(f"{each.name} {each.shape}" for each in inputs)
        raise SparsifyError(
            f"'{path}' cannot embed speech: its input must be features [B, T, {bins}] or samples"
            f" [B, samples], not {described}"
        )
    name, output = inputs[0].name, outputs[0].name
    kind = np.float16 if inputs[0].type == "tensor(float16)" else np.float32

    def embed(feats: NDArray[np.float32]) -> NDArray[np.float32]:
        run = onnxruntime.RunOptions()
        feed = {name: feats.astype(kind, copy=False)}
        try:
            with stopped_by(partial(setattr, run, "terminate", True)):
                embeddings = session.run([output], feed, run)[0]
        except _ORT_ERRORS as error:
            raise refused(str(path), feats.shape, error) from error
        given, found = np.shape(embeddings), getattr(embeddings, "dtype", None)
        if len(given) != 2 or given[0] != len(feats) or found not in (np.float32, np.float16):
            raise SparsifyError(
                f"'{path}' does not embed utterances: features {feats.shape} gave {found} {given},"
                f" not float32 ({len(feats)}, D)"
            )
        return embeddings.astype(np.float32, copy=False)

    return embed
