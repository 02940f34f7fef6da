"""Whether a file still is what was written: digests of its content, in its metadata.

A seal is two SHA-256 digests. `structure_digest` covers what there is, such as the names, types and
shapes of tensors and the keys of metadata; `content_digest` covers the values, too. With the same
structure and other values a file is damaged. With another structure it is another tool's work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from sparsify.arrays import Array
from sparsify.errors import SparsifyError
from sparsify.models.names import COUNTER

STRUCTURE, CONTENT = KEYS = ("structure_digest", "content_digest")
_LENGTH = 8  # bytes of a length

Entry: TypeAlias = tuple[str, bytes | memoryview]
"""A part of a file: what it is, and its value."""


def seal(entries: Iterable[Entry]) -> dict[str, str]:
    """The seal of a file of these entries, as metadata."""
    structure, content = hashlib.sha256(), hashlib.sha256()
    for description, value in entries:
        name = description.encode("utf-8", "surrogatepass")
        framed = len(name).to_bytes(_LENGTH) + name
        structure.update(framed)
        content.update(framed + memoryview(value).nbytes.to_bytes(_LENGTH))
        content.update(value)
    return {STRUCTURE: structure.hexdigest(), CONTENT: content.hexdigest()}


def is_intact(metadata: Mapping[str, str], entries: Iterable[Entry], path: Path) -> bool | None:
    """Whether a file is as it was written; `None` if it has no seal.

    Args:
        metadata: The file's, in which its seal is.
        entries: What the file holds now.
        path: The file.

    Raises:
        SparsifyError: It is damaged.
    """
    if not set(KEYS) <= metadata.keys():
        return None
    found = seal(entries)
    if found[STRUCTURE] != metadata[STRUCTURE]:
        return False
    if found[CONTENT] != metadata[CONTENT]:
        raise altered(path)
    return True


def altered(path: Path) -> SparsifyError:
    """The error of a file whose values have changed."""
    return SparsifyError(
        f"'{path}' is damaged: its values are not those that were written, restore it or make it"
        " again"
    )


def metadata_entries(metadata: Mapping[str, str]) -> Iterator[Entry]:
    """Of any file: the metadata besides a seal."""
    for key in sorted(metadata.keys() - set(KEYS)):
        yield f"metadata {key}", metadata[key].encode("utf-8", "surrogatepass")


def tensor_entries(metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> Iterator[Entry]:
    """Of a file of tensors: the metadata besides a seal, and the dense tensors."""
    yield from metadata_entries(metadata)
    for name in sorted(tensors):
        yield _tensor_entry(name, tensors[name])


def source_digest(state: Mapping[str, Array]) -> str:
    """SHA-256 of a state: traces an export to its model, in whatever format and layout.

    Covers names, types, shapes and values in order of the names. Batch norm's counters, which have
    no part in an embedding and do not survive ONNX, are left out.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if not name.endswith(COUNTER):
            description, value = _tensor_entry(name, state[name])
            digest.update(description.encode())
            digest.update(value)
    return digest.hexdigest()


def _tensor_entry(name: str, tensor: Array) -> Entry:
    values = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
    return f"{name}\0torch.{tensor.dtype.name}\0{tensor.shape}\0", values
