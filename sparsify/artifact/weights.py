"""What a file holds: its tensors and its metadata, whoever wrote it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sparsify.arrays import Array
from sparsify.artifact.formats import format_of, is_exported_folder
from sparsify.errors import SparsifyError
from sparsify.files import size_bytes
from sparsify.named import named
from sparsify.sparsity.table import SparsityTable


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes:
        arrays: Dense tensors by name.
        metadata: Strings by key; our keys without what a format puts before them.
        operators: In a graph, the operator that consumes each tensor, such as `Conv`.
        intact: Whether the file is as sparsify wrote it; `None` where it has no seal.
        graph: Whether the file holds a graph, whose tensors are constants beside the parameters,
            too, and not a state dict.
        table: Of a graph of ours from which the network cannot be built: the network's parameters,
            counted in the file as far as they are there.
        obstacle: Of such a graph, why.
        left_out: Sentences about what may be weights and is not among the arrays, or not to be
            counted; no gate passes on a file of which something was left out.
        beside: Files beside it that have some of the values.
    """

    arrays: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)
    operators: Mapping[str, str] = field(default_factory=dict)
    intact: bool | None = None
    graph: bool = False
    table: SparsityTable | None = None
    obstacle: str | None = None
    left_out: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()


def read_weights(path: Path) -> Weights:
    """Reads a file of any format, or the folder where a format is one; only `.pt` takes torch.

    Raises:
        SparsifyError: The file is missing, damaged, of another kind, or would take more memory
            than its size can explain.
    """
    if not path.is_file() and not is_exported_folder(path):
        raise SparsifyError(f"no such file: '{path}'")
    format_ = format_of(path)
    try:
        if size_bytes(path) > _memory():
            raise SparsifyError(f"'{path}' is larger than the memory of this machine")
        weights: Weights = named(format_.reader)(path)
    except OSError as error:
        subject = error.filename or path
        raise SparsifyError(f"cannot read '{subject}': {error.strerror or error}") from error
    return weights


def _memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
