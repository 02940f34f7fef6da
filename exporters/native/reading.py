"""Reads what a native export made; importing this module takes no torch."""

from __future__ import annotations

from pathlib import Path

from sparsify.artifact.tensor_file import read_tensors
from sparsify.artifact.weights import Weights
from sparsify.errors import SparsifyError
from sparsify.exporters.native.library import BLOB, read_marker
from sparsify.exporters.native.targets import WEB
from sparsify.files import content_digest

WEIGHTS = "model.safetensors"
"""The model that a library was made of, beside it."""


def read_native(path: Path) -> Weights:
    """The weights that a library was made of, which lie beside it.

    Raises:
        SparsifyError: They are damaged, or of another model than the library.
        OSError: They cannot be read.
    """
    weights = read_tensors(path / WEIGHTS)
    marker = read_marker(path)
    for blob in (path / BLOB, path / WEB / BLOB):
        if blob.is_file() and content_digest(blob) != marker.get("blob_digest"):
            raise SparsifyError(f"'{blob}' is damaged or was changed: export the model again")
    if marker.get("source_digest") != weights.metadata.get("source_digest"):
        raise SparsifyError(
            f"'{path}' is damaged: its library and its {WEIGHTS} are of different models"
        )
    return weights
