"""The `.safetensors` file: tensors, dense or packed as a layout has it, and sealed metadata.

Importing this module takes no torch.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from sparsify.arrays import Array, countable
from sparsify.artifact import bitmask, coded
from sparsify.artifact.formats import BITMASK, CODED
from sparsify.artifact.room import Room
from sparsify.artifact.seals import is_intact, seal, tensor_entries
from sparsify.artifact.weights import Weights
from sparsify.errors import SparsifyError, damaged
from sparsify.files import replacing
from sparsify.runtimes import NotInstalledError


@dataclass(frozen=True)
class Packing:
    """How a layout stores a tensor with zeros: as several, `X.part` for each part of `X`.

    Attributes:
        packed: The parts of a tensor, a dataclass of arrays.
        pack: Makes them.
        unpack: The dense tensor again; raises `SparsifyError` if the parts contradict each other.
    """

    packed: type
    pack: Callable[[Array], Any]
    unpack: Callable[[Any], Array]

    @property
    def parts(self) -> list[str]:
        """The names of the parts."""
        return [part.name for part in fields(self.packed)]


PACKINGS = {BITMASK: Packing(bitmask.Packed, bitmask.pack, bitmask.unpack)}
"""The layouts that store some tensors as several; `CODED` stores all of them as one stream."""
_METADATA = "__metadata__"
_TYPES: Mapping[str, Any] = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8},
    **{"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8},
    **{"C64": np.complex64, "BOOL": np.bool_},
    **{"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz},
    **{"F8_E5M2": ml_dtypes.float8_e5m2, "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz},
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}
"""What the format calls its types; there are others of less than a byte."""
_KNOWN = {np.dtype(each) for each in _TYPES.values()}


def write_tensors(
    path: Path,
    state: Mapping[str, Array],
    metadata: Mapping[str, str],
    layout: str,
    prunable: Iterable[str],
) -> None:
    """Writes a file, which appears complete or not at all.

    Args:
        path: The file; replaced if it exists.
        state: Contiguous tensors, by name.
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
        stored, metadata = _stored(path)
        if coded.is_coded(stored):
            arrays = coded.decode(stored, Room(path.stat().st_size))
        else:
            arrays = _unpacked(stored)
    except (SafetensorError, MemoryError, LookupError, TypeError, ValueError) as error:
        raise damaged(path, error) from error
    except NotInstalledError:
        raise
    except SparsifyError as error:
        raise SparsifyError(f"'{path}' is damaged: {error}") from error
    intact = is_intact(metadata, tensor_entries(metadata, arrays), path)
    return Weights(arrays, metadata, intact=intact)


def _stored(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors as they are in the file, and its metadata."""
    with safe_open(path, framework="np") as file:  # which finds what is wrong with the header
        metadata = file.metadata() or {}
    arrays = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header, start = _header(content)
        header.pop(_METADATA, None)
        for name, entry in header.items():
            type_ = entry["dtype"]
            if type_ not in _TYPES:
                raise SparsifyError(
                    f"tensor '{name}' has the type {type_}, which cannot be counted"
                )
            place = start + entry["data_offsets"][0]
            # A copy, since nothing says that a tensor begins where its type may.
            array: Array = np.ndarray(entry["shape"], _TYPES[type_], content, place).copy()
            arrays[name] = countable(name, array)
    return arrays, metadata


def _header(content: bytes | mmap.mmap) -> tuple[dict[str, Any], int]:
    """What the beginning of a file says, and where the values begin."""
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:start])
    return header, start


def _unpacked(stored: Mapping[str, Array]) -> dict[str, Array]:
    """The tensors with those that were packed made dense."""
    tensors: dict[str, Array] = {}
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


def _packing(base: str, part: str, stored: Mapping[str, Array]) -> Packing | None:
    """What packed the tensor `base` of which a stored one may be a part, with all the others."""
    for packing in PACKINGS.values():
        if part in packing.parts and all(f"{base}.{each}" in stored for each in packing.parts):
            return packing
    return None


def file_content(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """A file of the format, the same for the same content.

    Args:
        tensors: Contiguous tensors, by name.
        metadata: Strings by key; safetensors alone writes them in random order.

    Raises:
        SparsifyError: A tensor has a type that the format has not.
    """
    for name, array in tensors.items():
        if array.dtype not in _KNOWN:
            raise SparsifyError(
                f"tensor '{name}' of type {array.dtype} cannot be stored in safetensors"
            )
    content = safetensors.numpy.save(dict(tensors), dict(metadata))
    header, start = _header(content)
    header[_METADATA] = dict(sorted(header[_METADATA].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[start:]
