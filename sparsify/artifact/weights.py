"""Raw readers: the tensors and the metadata of a file, whoever wrote it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparsify.artifact.bitmask import Packed, unpack
from sparsify.exporters.onnx.tensors import GRAPH_ERRORS, read_onnx
from sparsify.artifact.plain import damaged, plain
from sparsify.artifact.seals import is_intact, onnx_entries, tensor_entries
from sparsify.artifact.state_dicts import read_state_dict
from sparsify.errors import SparsifyError

ONNX_PREFIX = "sparsify."
_PARTS = ("compressed", "bitmask", "shape")


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        format: `safetensors`, `onnx` or `pt`.
        tensors: Dense tensors by name.
        metadata: Strings by key; in ONNX files the prefix `sparsify.` of our keys is removed.
        operators: In ONNX files, the operator that consumes each tensor, such as `Conv`.
        intact: Whether the file is as sparsify wrote it; `None` where it has no seal.
    """

    format: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)
    operators: Mapping[str, str] = field(default_factory=dict)
    intact: bool | None = None


def read_weights(path: Path) -> Weights:
    """Reads a `.safetensors`, `.onnx`, `.pt`, `.pth` or `.ckpt` file.

    Raises:
        SparsifyError: The file is missing, damaged, of another kind, or would take more memory
            than its size can explain.
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
        if path.stat().st_size > _memory():
            raise SparsifyError(f"'{path}' is larger than the memory of this machine")
        return reader(path)
    except OSError as error:
        subject = error.filename or path
        raise SparsifyError(f"cannot read '{subject}': {error.strerror or error}") from error


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: plain(name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        tensors = _unpacked(stored)
    except (SafetensorError, RuntimeError, MemoryError) as error:
        raise damaged(path, error) from error
    except SparsifyError as error:
        raise SparsifyError(f"'{path}' is damaged: {error}") from error
    intact = is_intact(metadata, tensor_entries(metadata, tensors), path)
    return Weights("safetensors", tensors, metadata, intact=intact)


def _unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with those in the bitmask layout made dense."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        base, _, part = name.rpartition(".")
        packed = [stored[each] for p in _PARTS if (each := f"{base}.{p}") in stored]
        if part not in _PARTS or len(packed) < len(_PARTS):
            tensors[name] = tensor
        elif base in stored:
            raise SparsifyError(f"tensor '{base}' is in it twice, with and without its zeros")
        elif part == _PARTS[0]:
            try:
                tensors[base] = unpack(Packed(*packed))
            except SparsifyError as error:
                raise SparsifyError(f"tensor '{base}': {error}") from error
    return tensors


def _pt(path: Path) -> Weights:
    return Weights("pt", read_state_dict(path))


def _onnx(path: Path) -> Weights:
    content = read_onnx(path)
    own = own_metadata(content.model)
    try:
        intact = is_intact(own, onnx_entries(own, content.model), path)
    except GRAPH_ERRORS as error:
        raise damaged(path, error) from error
    others = {k: v for k, v in content.properties.items() if not k.startswith(ONNX_PREFIX)}
    return Weights("onnx", content.tensors, {**others, **own}, content.operators, intact)


def own_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """What sparsify wrote into the metadata of a model, without the prefix."""
    return {
        entry.key.removeprefix(ONNX_PREFIX): entry.value
        for entry in model.metadata_props
        if entry.key.startswith(ONNX_PREFIX)
    }
