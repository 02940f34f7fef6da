"""Raw readers: the tensors and the metadata of a file, whoever wrote it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from onnx import numpy_helper
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparsify.bitmask import Packed, unpack
from sparsify.errors import SparsifyError

ONNX_PREFIX = "sparsify."
_NESTINGS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
# What unpickling bytes that are no pickle can end in.
_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
)


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        format: `safetensors`, `onnx` or `pt`.
        tensors: Dense tensors by name.
        metadata: Strings by key; in ONNX files the prefix `sparsify.` of our keys is removed.
        operators: In ONNX files, the operator that consumes each tensor, such as `Conv`.
    """

    format: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    operators: Mapping[str, str] = field(default_factory=dict)


def read_weights(path: Path) -> Weights:
    """Reads a `.safetensors`, `.onnx`, `.pt`, `.pth` or `.ckpt` file.

    Raises:
        SparsifyError: The file is missing, damaged, or of another kind.
    """
    if not path.is_file():
        raise SparsifyError(f"no such file: '{path}'")
    readers = {".safetensors": _safetensors, ".onnx": _onnx}
    readers |= dict.fromkeys((".pt", ".pth", ".ckpt"), _pt)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SparsifyError(
            f"'{path}' is not a model: give a run directory, .safetensors, .onnx or .pt file"
        )
    try:
        return reader(path)
    except OSError as error:
        subject = error.filename or path
        raise SparsifyError(f"cannot read '{subject}': {error.strerror or error}") from error


def _damaged(path: Path, error: Exception) -> SparsifyError:
    reason = str(error).strip().partition("\n")[0]
    return SparsifyError(f"'{path}' is damaged or not a {path.suffix} file: {reason}")


def _safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: _plain(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from error
    try:
        return Weights("safetensors", _unpacked(stored), metadata)
    except SparsifyError as error:
        raise SparsifyError(f"'{path}': {error}") from error


def _unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        base, _, part = name.rpartition(".")
        parts = [stored.get(f"{base}.{other}") for other in ("compressed", "bitmask", "shape")]
        compressed, bitmask, shape = parts
        if part not in ("compressed", "bitmask", "shape") or (
            compressed is None or bitmask is None or shape is None
        ):
            tensors[name] = tensor
        elif part == "compressed":
            try:
                tensors[base] = unpack(Packed(compressed, bitmask, shape))
            except SparsifyError as error:
                raise SparsifyError(f"tensor '{base}': {error}") from error
    return tensors


def _pt(path: Path) -> Weights:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except _PICKLE_ERRORS as error:
        raise _damaged(path, error) from error
    for nesting in _NESTINGS:
        if isinstance(content, Mapping) and isinstance(content.get(nesting), Mapping):
            content = content[nesting]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    ):
        raise SparsifyError(
            f"'{path}' does not hold a state dict: save it with torch.save(model.state_dict(), …)"
        )
    tensors = {name: tensor.detach() for name, tensor in content.items()}
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    if any(tensor.is_meta for tensor in tensors.values()):
        raise SparsifyError(f"'{path}' holds names and shapes without values: save the weights too")
    return Weights("pt", {name: _plain(tensor) for name, tensor in tensors.items()})


def _onnx(path: Path) -> Weights:
    try:
        model = onnx.load(path)
        tensors = {t.name: _tensor(numpy_helper.to_array(t)) for t in model.graph.initializer}
        tensors |= {t.values.name: _densified(t) for t in model.graph.sparse_initializer}
        tensors |= {
            node.output[0]: _tensor(numpy_helper.to_array(attribute.t))
            for node in model.graph.node
            if node.op_type == "Constant"
            for attribute in node.attribute
            if attribute.name == "value"
        }
    except (DecodeError, onnx.checker.ValidationError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error
    if not model.graph.node:
        raise SparsifyError(f"'{path}' is damaged or not a .onnx file: it has no graph")
    properties = {p.key: p.value for p in model.metadata_props}
    own = {
        key.removeprefix(ONNX_PREFIX): value
        for key, value in properties.items()
        if key.startswith(ONNX_PREFIX)
    }
    others = {k: v for k, v in properties.items() if not k.startswith(ONNX_PREFIX)}
    operators = {name: node.op_type for node in model.graph.node for name in node.input}
    return Weights("onnx", tensors, {**others, **own}, operators)


def _plain(tensor: Tensor) -> Tensor:
    """A dense tensor of a type that can be counted and computed with."""
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    small_float = tensor.is_floating_point() and tensor.element_size() < 2
    return tensor.float() if small_float else tensor


def _densified(sparse: onnx.SparseTensorProto) -> Tensor:
    """A sparse initializer (COO, indices linear or one row per value) with its zeros."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), dtype=values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return _tensor(dense)


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype.isbuiltin != 1:
        # bfloat16, float8 and int4 are no numpy types of their own; float32 holds all their values.
        array = array.astype(np.float32)
    return torch.from_numpy(array.copy())
