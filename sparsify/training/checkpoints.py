"""Files of tensors and plain values that tell whether they still are what was written.

The SHA-256 of all that precedes it ends the file. `torch.load` reads it nevertheless.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from sparsify.artifact.state_dicts import PICKLE_ERRORS, stored_bytes
from sparsify.errors import SparsifyError

_MARK = b"\nsparsify sha256 "
_SEAL_BYTES = len(_MARK) + 2 * hashlib.sha256().digest_size
_MOST_BYTES = 1 << 36
_CHUNK = 1 << 20


class DamagedError(SparsifyError):
    """A file is missing or not what was written; the sentence lacks a remedy."""


def packed(content: Mapping[str, Any]) -> memoryview:
    """The bytes of a file that holds `content`: tensors, numbers, text and containers of them."""
    buffer = io.BytesIO()  # writing to a file, torch.save has no words for a full disk
    torch.save(dict(content), buffer)
    seal = _seal(hashlib.sha256(buffer.getbuffer()))
    buffer.write(seal)
    return buffer.getbuffer()


def load(path: Path) -> dict[str, Any]:
    """The content of a file, on the CPU; nothing is made of its bytes before they are verified.

    Raises:
        DamagedError: It is missing or not what was written.
    """
    try:
        with path.open("rb") as file:
            _verify(file, path)
            stored_bytes(path)  # somebody may have made it up, seal and all
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DamagedError(f"'{path}' is missing") from error
    except DamagedError:
        raise
    except (*PICKLE_ERRORS, OSError, SparsifyError) as error:
        raise DamagedError(f"'{path}' is damaged") from error
    if not isinstance(content, dict):
        raise DamagedError(f"'{path}' is damaged")
    return content


def check(path: Path) -> None:
    """Verifies a file without loading it.

    Raises:
        DamagedError: It is missing or not what was written.
    """
    try:
        with path.open("rb") as file:
            _verify(file, path)
    except FileNotFoundError as error:
        raise DamagedError(f"'{path}' is missing") from error
    except OSError as error:
        raise DamagedError(f"'{path}' is damaged") from error


def _verify(file: IO[bytes], path: Path) -> None:
    size = os.fstat(file.fileno()).st_size - _SEAL_BYTES
    if not 0 < size <= _MOST_BYTES:
        raise DamagedError(f"'{path}' is damaged")
    file.seek(size)
    seal = file.read()
    if not seal.startswith(_MARK):
        raise DamagedError(f"'{path}' is damaged (or of an early sparsify without seals)")
    file.seek(0)
    digest = hashlib.sha256()
    while size and (chunk := file.read(min(size, _CHUNK))):
        digest.update(chunk)
        size -= len(chunk)
    if seal != _seal(digest):
        raise DamagedError(f"'{path}' is damaged")


def _seal(digest: Any) -> bytes:
    return _MARK + digest.hexdigest().encode()


@contextmanager
def fitting(run: Path) -> Iterator[None]:
    """Within it, content of a checkpoint that is of no use becomes a sentence."""
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SparsifyError(
            f"the checkpoint in '{run}' does not fit: the data, the model or sparsify has"
            f" changed since the run began, start it anew in another --output ({error})"
        ) from error
