"""Models on disk are read, whoever wrote them, and checked against what was written.

Importing this module takes no torch.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sparsify.arrays import is_floating
from sparsify.artifact.artifact import Artifact
from sparsify.artifact.fidelity import check_table, is_intact_unsealed, lost, outline_in
from sparsify.artifact.formats import format_of
from sparsify.artifact.places import model_file
from sparsify.artifact.provenance import is_ours, network_in
from sparsify.artifact.reparametrised import whole
from sparsify.artifact.weights import read_weights
from sparsify.models import toolkits
from sparsify.models.foreign import UnsupportedModelError
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.selection import looks_prunable

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

_KINDS = {"c": "complex numbers", "b": "truth values"}
"""What tensors hold that are neither floats nor integers, by numpy's kinds of types."""


def load_artifact(path: str | Path, *, trust: bool = False) -> Artifact:
    """Reads a run directory or a file of any format (see `sparsify.artifact.formats`).

    Also models of other toolkits, see `sparsify.models.toolkits`. A file of ours that another tool
    has changed is read as one that is not ours.

    Args:
        path: The file or run directory.
        trust: Whether `build` may import and run code that the file names as its network.

    Raises:
        SparsifyError: The file is missing, damaged, of another kind or of a newer format version.
    """
    file = model_file(Path(path))
    weights = read_weights(file)
    artifact = Artifact(
        path=file,
        format=format_of(file),
        arrays=weights.arrays,
        architecture=None,
        front_end=FrontEnd(),
        metadata=weights.metadata,
        operators=weights.operators,
        graph=weights.graph,
        left_out=weights.left_out,
        beside=weights.beside,
        trusted=trust,
    )
    if not is_ours(weights.metadata):
        return artifact if weights.graph else _interpreted(artifact)
    architecture, front_end = network_in(weights.metadata, file)
    artifact = replace(artifact, architecture=architecture, front_end=front_end)
    if weights.table:
        artifact = replace(artifact, table=weights.table, obstacle=weights.obstacle)
        if not architecture.is_code:
            check_table(weights.table, outline_in(file, architecture, artifact.selection), file)
        return artifact
    intact = weights.intact
    if intact is None:  # from an earlier version
        intact = is_intact_unsealed(artifact.arrays, architecture, weights.metadata, file)
    if intact:
        # Code may compute with its weights, as an LSTM's gates are put into another order.
        return replace(artifact, left_out=()) if architecture.is_code else artifact
    logger.warning(
        "'%s' has been changed by another tool since sparsify wrote it: read like a file that is"
        " not ours",
        file,
    )
    left_out = (*artifact.left_out, *lost(artifact.arrays, architecture))
    return _read_as_foreign(replace(artifact, architecture=None, left_out=left_out))


def load_model(path: str | Path, *, trust: bool = False) -> nn.Module:
    """A ready network from anything that `load_artifact` reads, on the CPU, in eval mode.

    Args:
        path: The file or run directory.
        trust: Whether code that the file names as its network may be imported and run.

    Raises:
        SparsifyError: The file cannot be read, does not say which network it is, or names code and
            is not trusted.
    """
    return load_artifact(path, trust=trust).build()


def _interpreted(artifact: Artifact) -> Artifact:
    """A state dict that is not ours, in our terms if another toolkit's is known."""
    artifact = replace(artifact, arrays=whole(artifact.arrays))
    try:
        found = toolkits.interpret(artifact.path, artifact.arrays)
    except UnsupportedModelError as error:
        return _read_as_foreign(replace(artifact, obstacle=str(error)))
    if found is None:
        return _read_as_foreign(artifact)
    return replace(
        artifact, arrays=found.state, architecture=found.architecture, front_end=found.front_end
    )


def _read_as_foreign(artifact: Artifact) -> Artifact:
    """A file of tensors that are not known, of which integers have no zero point."""
    if artifact.graph:
        return artifact
    others = [
        f"'{name}' holds {_KINDS.get(array.dtype.kind, 'integers, whose zero point is not known')}"
        for name, array in artifact.arrays.items()
        if looks_prunable(array.shape) and not is_floating(array)
    ]
    return replace(artifact, left_out=(*artifact.left_out, *others))
