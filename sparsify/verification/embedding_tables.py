"""Embeddings on disk: NumPy's `.npz`, Kaldi's `.ark` with its `.scp`, and JSON lines."""

from __future__ import annotations

import json
import math
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparsify.artifact.room import Room
from sparsify.errors import SparsifyError
from sparsify.files import check_unread, check_writable, replacing

Array: TypeAlias = NDArray[Any]

SUFFIXES = (".npz", ".ark", ".jsonl")
_INDEX = re.compile(r"\A(?:\Z|\S+ .+\.ark:\d+$)", re.MULTILINE)  # how an .scp of ours begins
# What reading an .npz that is none can end in.
_NPZ_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    SyntaxError,
    EOFError,
    MemoryError,
    RuntimeError,
    SystemError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class EmbeddingTable:
    """Embeddings by the name of their utterance.

    Attributes:
        keys: Names of the utterances, each once.
        speakers: Who speaks each; empty where nobody knows.
        embeddings: One row per utterance, `(U, D)`.
        model: Digest of the model that made them.
    """

    keys: tuple[str, ...]
    speakers: tuple[str, ...]
    embeddings: NDArray[np.float32]
    model: str


def check_table(path: Path, sources: Sequence[Path] = ()) -> None:
    """Checks that a table can be written at `path`, before work is spent on its content.

    Args:
        path: The table.
        sources: What it is made of.

    Raises:
        SparsifyError: The name has no known ending, a file cannot be written, or is one of the
            sources, or somebody else's.
    """
    if path.suffix not in SUFFIXES:
        endings = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        raise SparsifyError(f"cannot write '{path}': the name must end in {endings}")
    for file in _files(path):
        check_writable(file)
        check_unread(file, sources)
    script = _files(path)[-1]
    if script != path and script.exists() and not _INDEX.search(_beginning(script)):
        raise SparsifyError(
            f"cannot write '{path}': '{script}', which goes with it, is there and is no index of an"
            " .ark; name another --output"
        )


def check_keys(path: Path, keys: Iterable[str]) -> None:
    """Checks that the format at `path` can hold keys.

    Raises:
        SparsifyError: It cannot.
    """
    if path.suffix == ".ark":
        spaced = next((key for key in keys if not key or len(key.split()) != 1), None)
        if spaced is not None:
            raise SparsifyError(
                f"Kaldi's files cannot hold the key '{spaced}': it has white space; write .npz or"
                " .jsonl"
            )


def _files(path: Path) -> list[Path]:
    """What is written at `path`: a table of Kaldi's has an index beside it."""
    return [path, path.with_suffix(".scp")] if path.suffix == ".ark" else [path]


def _beginning(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(1 << 16)


def write_table(table: EmbeddingTable, path: Path) -> list[Path]:
    """Writes embeddings in the format that the ending of the name says.

    - `.npz`: the arrays `keys` and `speakers` `(U,)`, `embeddings` `(U, D)` float32 and `model`,
      the digest.
    - `.ark`: Kaldi's binary float vectors; beside it goes an `.scp` that says where in it each is.
    - `.jsonl`: one `{"key": …, "embedding": […]}` per line.

    Returns:
        The files written; each appears complete or not at all.

    Raises:
        SparsifyError: The name has no known ending, a key does not fit the format, or a file
            cannot be written.
    """
    check_table(path)
    check_keys(path, table.keys)
    if path.suffix == ".ark":
        return _write_ark(table, path)
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            np.savez(
                temporary,
                keys=np.array(table.keys, dtype=np.str_),
                speakers=np.array(table.speakers, dtype=np.str_),
                embeddings=table.embeddings,
                model=np.array(table.model),
            )
        else:
            with temporary.open("w", encoding="utf-8") as file:
                for key, row in zip(table.keys, table.embeddings, strict=True):
                    file.write(json.dumps({"key": key, "embedding": row.tolist()}) + "\n")
    return [path]


def read_table(path: Path) -> EmbeddingTable:
    """Reads an `.npz` that `write_table` wrote.

    Raises:
        SparsifyError: The file is missing or something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            Room(path.stat().st_size).take("its content", [unpacked], 1)
            names = ("keys", "speakers", "embeddings", "model")
            return _table(*(_array(archive, f"{name}.npy") for name in names))
    except FileNotFoundError as error:
        raise SparsifyError(f"no table of embeddings '{path}'") from error
    except _NPZ_ERRORS as error:
        raise SparsifyError(
            f"'{path}' is not a table of embeddings: write an .npz with this `sparsify embed`"
        ) from error
    except SparsifyError as error:
        raise SparsifyError(f"'{path}': {error}: write it anew with `sparsify embed`") from error


def _array(archive: zipfile.ZipFile, name: str) -> Array:
    """An array of an `.npz`, whose header cannot claim more than there is."""
    with archive.open(name) as entry:
        if np.lib.format.read_magic(entry) != (1, 0):
            raise ValueError("no array as written here")
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(entry)
        content = entry.read()
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError("an array of another size than its header says")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")


def _table(keys: Array, speakers: Array, embeddings: Array, model: Array) -> EmbeddingTable:
    if any(array.dtype.kind != "U" for array in (keys, speakers, model)):
        raise SparsifyError("its keys, speakers or model are no texts")
    if embeddings.dtype != np.float32:
        raise SparsifyError(f"its embeddings are {embeddings.dtype} and not float32")
    shapes = keys.shape == speakers.shape == embeddings.shape[:1]
    if embeddings.ndim != 2 or not embeddings.size or not shapes:
        raise SparsifyError(
            f"it has keys {keys.shape} and speakers {speakers.shape} for embeddings"
            f" {embeddings.shape}"
        )
    return EmbeddingTable(
        tuple(keys.tolist()), tuple(speakers.tolist()), embeddings, str(model.item())
    )


def _write_ark(table: EmbeddingTable, path: Path) -> list[Path]:
    """Per vector: key, space, `\\0BFV \\4`, length as int32, float32 values, little-endian."""
    path, script = _files(path)
    lines = []
    with replacing(path) as temporary, replacing(script) as temporary_script:
        with temporary.open("wb") as file:
            for key, row in zip(table.keys, table.embeddings, strict=True):
                file.write(f"{key} ".encode(errors="surrogateescape"))
                lines.append(f"{key} {path}:{file.tell()}\n")
                file.write(b"\0BFV \4" + struct.pack("<i", len(row)))
                file.write(row.astype("<f4").tobytes())
        temporary_script.write_text("".join(lines), "utf-8", "surrogateescape")
    return [path, script]
