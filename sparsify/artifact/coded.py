"""The coded layout: all tensors of a file as one stream of symbols (docs/coded.md)."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from sparsify.arrays import Array
from sparsify.artifact.ans import Decoder, Encoder
from sparsify.artifact.coding import entropy_bits, read_tensor, write_tensor
from sparsify.artifact.room import Room
from sparsify.documents import parse_json
from sparsify.errors import SparsifyError

LIST, WORDS = "coded.tensors", "coded.words"
_LONGEST_LIST = 1 << 22  # bytes
_TYPES = {
    name: np.dtype(each)
    for name, each in {
        "F64": np.float64,
        "F32": np.float32,
        "F16": np.float16,
        "BF16": ml_dtypes.bfloat16,
        "I64": np.int64,
        "I32": np.int32,
        "I16": np.int16,
        "I8": np.int8,
        "U8": np.uint8,
    }.items()
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


def is_coded(stored: Mapping[str, Array]) -> bool:
    """Whether the tensors of a file are those that `encode` makes."""
    return stored.keys() == {LIST, WORDS}


def encode(state: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors as two: which there are, and one stream of all their symbols.

    Args:
        state: Contiguous tensors by name.

    Raises:
        SparsifyError: The coder is not installed, or a tensor has a type that is not coded.
    """
    encoder = Encoder()
    rows = []
    for name, tensor in sorted(state.items()):
        if tensor.dtype not in _NAMES:
            raise SparsifyError(f"tensor '{name}' of type {tensor.dtype} cannot be coded")
        rows.append([name, _NAMES[tensor.dtype], list(tensor.shape)])
        write_tensor(encoder, tensor)
    listed = zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 9)
    return {LIST: _as_array(listed), WORDS: _as_array(encoder.content())}


def decode(stored: Mapping[str, Array], room: Room) -> dict[str, Array]:
    """The tensors that `encode` was given, to the last bit.

    Args:
        stored: What it made.
        room: Takes each tensor before it is made.

    Raises:
        SparsifyError: The coder is not installed, or it is damaged.
    """
    listed, words = (_as_bytes(name, stored[name]) for name in (LIST, WORDS))
    decoder = Decoder(words)
    tensors: dict[str, Array] = {}
    for name, type_, shape in _rows(listed):
        if name in tensors:
            raise SparsifyError(f"tensor '{name}' is in it twice")
        dtype = _TYPES[type_]
        room.take(f"tensor '{name}'", shape, dtype.itemsize)
        try:
            tensors[name] = read_tensor(decoder, shape, dtype)
        except SparsifyError as error:
            raise SparsifyError(f"tensor '{name}': {error}") from error
    decoder.finish()
    return tensors


def entropy_bytes(state: Mapping[str, Array]) -> int:
    """What `encode` cannot do much better than, see `entropy_bits`."""
    return math.ceil(sum(entropy_bits(tensor) for tensor in state.values()) / 8)


def _rows(listed: bytes) -> Iterator[tuple[str, str, list[int]]]:
    """Name, type and shape of each tensor."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(listed, _LONGEST_LIST).decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise SparsifyError(f"its list of tensors is cut: {error}") from error
    if not unpacker.eof:
        raise SparsifyError("its list of tensors is cut, or absurdly long")
    rows = parse_json(text, "its list of tensors")
    for row in rows if isinstance(rows, list) else [rows]:
        match row:
            case [str(name), str(type_), list(shape)] if type_ in _TYPES and all(
                type(size) is int for size in shape
            ):
                yield name, type_, shape
            case _:
                raise SparsifyError(
                    f"its list of tensors has no name, type and shape in {row!r:.80}"
                )


def _as_array(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(bytearray(content), dtype=np.uint8)


def _as_bytes(name: str, tensor: Array) -> bytes:
    if tensor.dtype != np.uint8 or tensor.ndim != 1:
        raise SparsifyError(f"'{name}' must be bytes, got {tensor.dtype} of shape {tensor.shape}")
    return tensor.tobytes()
