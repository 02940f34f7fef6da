"""The `.safetensors` file: tensors, dense or packed as a layout has it, and sealed metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparsify.artifact import bitmask, coded
from sparsify.artifact.formats import BITMASK, CODED
from sparsify.artifact.plain import damaged, plain
from sparsify.artifact.room import Room
from sparsify.artifact.seals import is_intact, seal, tensor_entries
from sparsify.artifact.weights import Weights
from sparsify.errors import SparsifyError
from sparsify.files import replacing
from sparsify.runtimes import NotInstalledError


@dataclass(frozen=True)
class Packing:
    """How a layout stores a tensor with zeros: as several, `X.part` for each part of `X`.

    Attributes:
        packed: The parts of a tensor, a dataclass of tensors.
        pack: Makes them.
        unpack: The dense tensor again; raises `SparsifyError` if the parts contradict each other.
    """

    packed: type
    pack: Callable[[Tensor], Any]
    unpack: Callable[[Any], Tensor]

    @property
    def parts(self) -> list[str]:
        """The names of the parts."""
        return [part.name for part in fields(self.packed)]


PACKINGS = {BITMASK: Packing(bitmask.Packed, bitmask.pack, bitmask.unpack)}
"""The layouts that store some tensors as several; `CODED` stores all of them as one stream."""


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
        layout: One that the format has.
        prunable: The tensors that the layout is for, those with zeros in them.

    Raises:
        SparsifyError: The file cannot be written, or the coder is not installed.
    """
    described = {**metadata, "layout": layout}
    described |= seal(tensor_entries(described, state))
    stored = coded.encode(state) if layout == CODED else dict(state)
    if packing := PACKINGS.get(layout):
        for name in prunable:
            if bool((stored[name] == 0).any()):
                packed = packing.pack(stored.pop(name))
                stored |= {f"{name}.{part}": tensor for part, tensor in vars(packed).items()}
    with replacing(path) as temporary:
        temporary.write_bytes(file_content(stored, described))


def read_tensors(path: Path) -> Weights:
    """Reads a file in any layout, whoever wrote it.

    Raises:
        SparsifyError: It is damaged, or coded and the coder is not installed.
        OSError: It cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: plain(name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        if coded.is_coded(stored):
            tensors = coded.decode(stored, Room(path.stat().st_size))
        else:
            tensors = _unpacked(stored)
    except (SafetensorError, RuntimeError, MemoryError) as error:
        raise damaged(path, error) from error
    except NotInstalledError:
        raise
    except SparsifyError as error:
        raise SparsifyError(f"'{path}' is damaged: {error}") from error
    intact = is_intact(metadata, tensor_entries(metadata, tensors), path)
    return Weights(tensors, metadata, intact=intact)


def _unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with those that were packed made dense."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        base, _, part = name.rpartition(".")
        packing = _packing(base, part, stored)
        if packing is None:
            tensors[name] = tensor
        elif base in stored:
            raise SparsifyError(f"tensor '{base}' is in it twice, with and without its zeros")
        elif part == packing.parts[0]:
            try:
                parts = [stored[f"{base}.{each}"] for each in packing.parts]
                tensors[base] = packing.unpack(packing.packed(*parts))
            except SparsifyError as error:
                raise SparsifyError(f"tensor '{base}': {error}") from error
    return tensors


def _packing(base: str, part: str, stored: Mapping[str, Tensor]) -> Packing | None:
    """What packed the tensor `base` of which a stored one may be a part, with all the others."""
    for packing in PACKINGS.values():
        if part in packing.parts and all(f"{base}.{each}" in stored for each in packing.parts):
            return packing
    return None


def file_content(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A file of the format, the same for the same content.

    Args:
        tensors: Contiguous tensors on the CPU, by name.
        metadata: Strings by key; safetensors alone writes them in random order.
    """
    content = safetensors.torch.save(dict(tensors), dict(metadata))
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[start:]
