"""Makes the metadata that `sparsify.artifact.provenance` reads, of a network that is written."""

from __future__ import annotations

import json
from collections.abc import Mapping

from torch import Tensor, nn

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.provenance import FORMAT_VERSION, KINDS, counts
from sparsify.artifact.seals import source_digest
from sparsify.errors import SparsifyError
from sparsify.models.registry import architecture_of
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.counting import parameter_kinds
from sparsify.sparsity.selection import EVERYTHING, Selection
from sparsify.tensors import arrays_of


def provenance(
    model: nn.Module, state: Mapping[str, Tensor], front_end: FrontEnd, recipe: Recipe | None
) -> dict[str, str]:
    """The metadata of a network, whatever the format.

    Args:
        model: The network.
        state: Its `canonical_state`.
        front_end: The features that it expects.
        recipe: What made it, if that is known.

    Raises:
        SparsifyError: The model does not know its architecture, or that is not JSON.
    """
    architecture = architecture_of(model)
    arrays = arrays_of(state)
    selection = recipe.model.selection if recipe else EVERYTHING
    try:
        description = json.dumps(architecture.to_json())
    except TypeError as error:
        raise SparsifyError(
            f"the options of model '{architecture.name}' must be JSON values: {error}"
        ) from error
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "framework": "sparsify",
        "architecture": description,
        "front_end": front_end.model_dump_json(),
        **counts(parameter_kinds(model, *selection), arrays),
        "source_digest": source_digest(arrays),
    }
    if architecture.is_code:
        metadata |= kinds_of(model, selection)
    return metadata | ({"recipe": recipe.without_paths().to_yaml()} if recipe else {})


def exported_metadata(
    artifact: Artifact, model: nn.Module, state: Mapping[str, Tensor]
) -> dict[str, str]:
    """The metadata of another file of the same network, whatever its format.

    Args:
        artifact: The model that is exported.
        model: Its network, as it is built.
        state: Its `canonical_state`.
    """
    return provenance(model, state, artifact.front_end, artifact.recipe) | artifact.measured


def kinds_of(model: nn.Module, selection: Selection) -> dict[str, str]:
    """Metadata that tell what the parameters of a network are that is not ours."""
    return {KINDS: json.dumps(parameter_kinds(model, *selection))}
