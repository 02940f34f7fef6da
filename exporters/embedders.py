"""Networks as callables on numpy arrays, whichever runtime is behind them.

A `Network` maps a batch of features `(B, T, bins)` to embeddings `(B, D)`, an `Embedder` those of
one utterance `(T, bins)` to `(D,)`; both float32.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _ort_errors
from torch import nn

from sparsify.artifact.artifact import Artifact, load_artifact
from sparsify.documents import parse_json
from sparsify.errors import SparsifyError
from sparsify.models.registry import Architecture, errors_of
from sparsify.recipe.sections import FrontEnd
from sparsify.recipe.validation import validate
from sparsify.verification.embedding import Embedder

logger = logging.getLogger(__name__)

Network: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# What onnxruntime says of a graph, and what its binding makes of a broken one.
_ORT_ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(_ort_errors).values() if inspect.isclass(e) and issubclass(e, Exception)),
    *(RuntimeError, ValueError, TypeError, LookupError, MemoryError),
)


def torch_network(model: nn.Module, threads: int | None = None) -> Network:
    """A network in PyTorch, on the CPU.

    Args:
        model: Maps features to embeddings; put into eval mode.
        threads: Threads per call; PyTorch's setting by default.

    Raises:
        SparsifyError: In a call, the model does not take such features.
    """
    model.eval()
    architecture = getattr(model, "architecture", None)
    name = architecture.name if isinstance(architecture, Architecture) else type(model).__name__

    def embed(feats: NDArray[np.float32]) -> NDArray[np.float32]:
        with errors_of(name), torch.inference_mode(), _torch_threads(threads):
            try:
                return model(torch.from_numpy(feats)).numpy()
            except RuntimeError as error:
                raise SparsifyError(
                    f"'{name}' does not accept features of shape {feats.shape}:"
                    f" {_first_line(error)}"
                ) from error

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
        raise SparsifyError(f"onnxruntime cannot load '{path}': {_first_line(error)}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if not outputs:
        raise SparsifyError(f"'{path}' cannot embed features: it has no output")
    shape = inputs[0].shape if inputs else []
    wrong_bins = len(shape) == 3 and isinstance(shape[2], int) and shape[2] != bins
    if len(inputs) != 1 or len(shape) != 3 or wrong_bins:
        described = ", ".join(f"{each.name} {each.shape}" for each in inputs)
        raise SparsifyError(
            f"'{path}' cannot embed features: its input must be [B, T, {bins}], not {described}"
        )
    name, output = inputs[0].name, outputs[0].name

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


@dataclass(frozen=True)
class SpeakerModel:
    """A model file, ready to embed utterances.

    Attributes:
        artifact: What the file holds.
        embedder: From the features of an utterance to its embedding.
        front_end: The features that the embedder expects.
    """

    artifact: Artifact
    embedder: Embedder
    front_end: FrontEnd

    @property
    def digest(self) -> str:
        """Which model this is: equal for a run and its exports; of foreign files, the file's."""
        known = self.artifact.metadata.get("source_digest") if self.artifact.architecture else None
        if known:
            return known
        with self.artifact.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def embedding_mean(self) -> NDArray[np.float64] | None:
        """The mean embedding of the training speech, `(D,)`, if the file carries it.

        Raises:
            SparsifyError: The file carries something else in its place.
        """
        text = self.artifact.metadata.get("embedding_mean")
        if text is None:
            return None
        values = parse_json(text, f"embedding_mean of '{self.artifact.path}'")
        if not isinstance(values, list) or not all(type(each) in (int, float) for each in values):
            raise SparsifyError(f"'{self.artifact.path}' has a damaged embedding_mean")
        return np.array(values, dtype=np.float64)


def load_speaker_model(
    path: str | Path, threads: int | None = None, *, trust: bool = False
) -> SpeakerModel:
    """A network from disk with what is known of its features; the file is read once.

    Args:
        path: A run directory or artifact; an `.onnx` need not be ours.
        threads: Threads per call; the runtime's default if not given.
        trust: Whether code that the file names as its network may be imported and run.

    Raises:
        SparsifyError: The file cannot be read, does not embed features, names code and is not
            trusted, or says that it expects features that are not computed here.
    """
    artifact = load_artifact(path, trust=trust)
    front_end = _expected_front_end(artifact)
    network = network_of(artifact, threads)
    return SpeakerModel(artifact, lambda feats: network(feats[None])[0], front_end)


def network_of(artifact: Artifact, threads: int | None = None) -> Network:
    """The network of an artifact: `.onnx` in onnxruntime, any other in PyTorch.

    Args:
        artifact: What was read; an `.onnx` need not be ours.
        threads: Threads per call; the runtime's default if not given.

    Raises:
        SparsifyError: The file does not embed features, or names code and is not trusted.
    """
    if artifact.format == "onnx":
        return onnx_network(artifact.path, artifact.front_end.num_mel_bins, threads)
    return torch_network(artifact.build(), threads)


def _expected_front_end(artifact: Artifact) -> FrontEnd:
    """The features the model expects; for files that are not ours, those of sherpa-onnx."""
    if artifact.metadata.get("framework") == "sparsify" or artifact.architecture is not None:
        return artifact.front_end
    stated = {key: text for key, text in artifact.metadata.items() if key == "sample_rate"}
    front_end = validate(FrontEnd, stated, f"metadata of '{artifact.path}'")
    for key, ours in (("normalize_samples", "0"), ("feature_normalize_type", "global-mean")):
        if artifact.metadata.get(key, ours) != ours:
            raise SparsifyError(
                f"'{artifact.path}' expects features with {key} '{artifact.metadata[key]}',"
                f" which are not computed here: only '{ours}' is"
            )
    logger.warning(
        "%s does not say which features it expects: using those of sherpa-onnx at %d Hz",
        artifact.path,
        front_end.sample_rate,
    )
    return front_end


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
