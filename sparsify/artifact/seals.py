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

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from sparsify.errors import SparsifyError

STRUCTURE, CONTENT = KEYS = ("structure_digest", "content_digest")
COUNTER = "num_batches_tracked"
"""How the names of batch norm's counters end."""
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
        raise damaged(path)
    return True


def damaged(path: Path) -> SparsifyError:
    """The error of a file whose values have changed."""
    return SparsifyError(
        f"'{path}' is damaged: its values are not those that were written, restore it or make it"
        " again"
    )


def tensor_entries(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Iterator[Entry]:
    """Of a `.safetensors` file: the metadata besides a seal, and the dense tensors."""
    yield from _metadata_entries(metadata)
    for name in sorted(tensors):
        yield _tensor_entry(name, tensors[name])


def onnx_entries(metadata: Mapping[str, str], model: onnx.ModelProto) -> Iterator[Entry]:
    """Of an `.onnx` file: our own metadata besides a seal, and what its main graph computes.

    How it stores the values, and names, notes and shapes that make no difference, are left out:
    tools add them. Which value goes where is a value, too.
    """
    yield from _metadata_entries(metadata)
    yield repr(sorted((each.domain, each.version) for each in model.opset_import)), b""
    graph = model.graph
    for tensor in sorted(graph.initializer, key=lambda tensor: tensor.name):
        yield _onnx_entry(tensor)
    for sparse in graph.sparse_initializer:
        yield f"sparse {sparse.values.name}", sparse.SerializeToString(deterministic=True)
    for end in (*graph.input, *graph.output):
        yield end.name, end.type.SerializeToString(deterministic=True)
    for node in graph.node:
        yield f"{node.domain} {node.op_type}", repr((*node.input, "→", *node.output)).encode()
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            described = f"{attribute.name} {attribute.type}"
            if attribute.type == onnx.AttributeProto.TENSOR:
                outline, value = _onnx_entry(attribute.t)
                yield f"{described} {outline}", value
            else:
                plain = onnx.AttributeProto()
                plain.CopyFrom(attribute)
                plain.doc_string = ""
                yield described, plain.SerializeToString(deterministic=True)


def source_digest(state: Mapping[str, Tensor]) -> str:
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


def _metadata_entries(metadata: Mapping[str, str]) -> Iterator[Entry]:
    for key in sorted(metadata.keys() - set(KEYS)):
        yield f"metadata {key}", metadata[key].encode("utf-8", "surrogatepass")


def _tensor_entry(name: str, tensor: Tensor) -> Entry:
    values = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
    return f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0", values


def _onnx_entry(tensor: onnx.TensorProto) -> Entry:
    """A tensor, wherever its message keeps the values."""
    outline = f"{tensor.name}\0{tensor.data_type}\0{tuple(tensor.dims)}\0"
    if tensor.data_type == onnx.TensorProto.STRING:
        return outline, b"\0".join(tensor.string_data)
    return outline, numpy_helper.to_array(tensor).tobytes()
