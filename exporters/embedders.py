"""Networks as callables on numpy arrays, whichever runtime is behind them.

A `Network` maps a batch of features `(B, T, bins)` to embeddings `(B, D)`, an `Embedder` those of
one utterance `(T, bins)` to `(D,)`; both float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _ort_errors
from torch import nn

from sparsify.artifact import load_artifact
from sparsify.errors import SparsifyError
from sparsify.verification.evaluate import Embedder

Network: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_ORT_ERRORS = (
    _ort_errors.Fail,
    _ort_errors.InvalidArgument,
    _ort_errors.InvalidGraph,
    _ort_errors.InvalidProtobuf,
    _ort_errors.NotImplemented,
    _ort_errors.RuntimeException,
)


def torch_network(model: nn.Module, threads: int | None = None) -> Network:
    """A network in PyTorch, on the CPU.

    Args:
        model: Maps features to embeddings; put into eval mode.
        threads: Threads per call; PyTorch's setting by default.
    """
    model.eval()

    def embed(feats: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode(), _torch_threads(threads):
            return model(torch.from_numpy(feats)).numpy()

    return embed


def onnx_network(path: Path, bins: int = 80, threads: int | None = None) -> Network:
    """A network in onnxruntime, on the CPU.

    Args:
        path: An ONNX model with one input, features `(B, T, bins)`, whose first output is the
            embeddings `(B, D)`.
        bins: Filterbank bins per frame.
        threads: Threads per call; one per core by default.

    Raises:
        SparsifyError: onnxruntime cannot load the model, or its input is something else.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    # Idle threads must not spin while another network, or the caller, wants the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except _ORT_ERRORS as error:
        raise SparsifyError(f"onnxruntime cannot load '{path}': {_first_line(error)}") from error
    inputs = session.get_inputs()
    shape = inputs[0].shape if inputs else []
    wrong_bins = len(shape) == 3 and isinstance(shape[2], int) and shape[2] != bins
    if len(inputs) != 1 or len(shape) != 3 or wrong_bins:
        described = ", ".join(f"{each.name} {each.shape}" for each in inputs)
        raise SparsifyError(
            f"'{path}' cannot embed features: its input must be [B, T, {bins}], not {described}"
        )
    name, output = inputs[0].name, session.get_outputs()[0].name

    def embed(feats: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            embeddings = session.run([output], {name: feats})[0]
        except _ORT_ERRORS as error:
            raise SparsifyError(
                f"'{path}' does not accept features of shape {feats.shape}: {_first_line(error)}"
            ) from error
        given, kind = np.shape(embeddings), getattr(embeddings, "dtype", None)
        if len(given) != 2 or given[0] != len(feats) or kind != np.float32:
            raise SparsifyError(
                f"'{path}' does not embed utterances: features {feats.shape} gave {kind} {given},"
                f" not float32 ({len(feats)}, D)"
            )
        return embeddings

    return embed


def load_network(path: str | Path, threads: int | None = None) -> Network:
    """A network from disk: `.onnx` in onnxruntime, any other artifact in PyTorch.

    Args:
        path: A run directory or artifact; an `.onnx` need not be ours.
        threads: Threads per call; the runtime's default if not given.

    Raises:
        SparsifyError: The file cannot be read or does not embed features.
    """
    artifact = load_artifact(path)
    if artifact.format == "onnx":
        return onnx_network(artifact.path, artifact.front_end.num_mel_bins, threads)
    return torch_network(artifact.build(), threads)


def single(network: Network) -> Embedder:
    """The embedder of one utterance at a time."""
    return lambda feats: network(feats[None])[0]


def load_embedder(path: str | Path, threads: int | None = None) -> Embedder:
    """`load_network` for one utterance at a time.

    Raises:
        SparsifyError: The file cannot be read or does not embed features.
    """
    return single(load_network(path, threads))


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
