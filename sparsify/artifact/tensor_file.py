"""The `.safetensors` file: tensors in the dense or the bitmask layout, and sealed metadata."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparsify.artifact.bitmask import Packed, pack, unpack
from sparsify.artifact.plain import damaged, plain
from sparsify.artifact.seals import is_intact, seal, tensor_entries
from sparsify.artifact.weights import Weights
from sparsify.errors import SparsifyError
from sparsify.files import replacing

_PARTS = ("compressed", "bitmask", "shape")


def write_tensors(
    path: Path,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    layout: str,
    prunable: Iterable[str],
) -> None:
    """Writes a file, which appears complete or not at all.

    Args:
        path: The file; replaced if it exists.
        state: Contiguous tensors on the CPU, by name.
        metadata: Strings by key; the layout and a seal are added.
        layout: `dense` or `bitmask`.
        prunable: The tensors that the layout is for, those with zeros in them.

    Raises:
        SparsifyError: The file cannot be written.
    """
    described = {**metadata, "layout": layout}
    described |= seal(tensor_entries(described, state))
    stored = dict(state)
    if layout == "bitmask":
        for name in prunable:
            if bool((stored[name] == 0).any()):
                packed = pack(stored.pop(name))
                stored |= {f"{name}.{part}": tensor for part, tensor in vars(packed).items()}
    with replacing(path) as temporary:
        temporary.write_bytes(_reproducible(safetensors.torch.save(stored, described)))


def read_tensors(path: Path) -> Weights:
    """Reads a file, whoever wrote it.

    Raises:
        SparsifyError: It is damaged.
        OSError: It cannot be read.
    """
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
    return Weights(tensors, metadata, intact=intact)


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


def _reproducible(content: bytes) -> bytes:
    """The same file with its metadata sorted; safetensors writes them in random order."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[start:]
