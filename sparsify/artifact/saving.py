"""Networks become files: what of a network is stored, and `save_model`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.description import provenance
from sparsify.artifact.formats import DENSE, STORE
from sparsify.artifact.provenance import COLLAPSED, MEAN
from sparsify.artifact.tensor_file import file_content, write_tensors
from sparsify.files import replacing
from sparsify.models.registry import architecture_of, can_be_rebuilt, default_options
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.sections import FrontEnd
from sparsify.recipe.validation import validate
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.tensors import arrays_of

logger = logging.getLogger(__name__)


def save_model(
    model: nn.Module,
    path: str | Path,
    recipe: Recipe | None = None,
    *,
    layout: str = DENSE,
    embedding_mean: Tensor | None = None,
    collapsed: str | None = None,
) -> None:
    """Writes a network as a `.safetensors` artifact; the file appears complete or not at all.

    Args:
        model: A network made by `build_model`, without its training head. Of any other the weights
            are written, in the dense layout, with a warning that nothing can rebuild it.
        path: The `.safetensors` file; replaced if it exists.
        recipe: What made the model; its front end travels with the artifact. Without one that is
            the default, with as many bins as the network has features.
        layout: `dense` (exact zeros, loads in anything), `bitmask` (zeros take one bit) or `coded`
            (the smallest).
        embedding_mean: Mean embedding `(D,)` of the training utterances, for scoring to subtract.
        collapsed: Why the model cannot verify speakers, if it cannot.

    Raises:
        SparsifyError: The model takes features that there are not, or the layout needs one that can
            be rebuilt, or the file cannot be written.
    """
    if not can_be_rebuilt(model):
        _save_weights(model, Path(path), layout)
        return
    front_end = recipe.front_end if recipe else _default_front_end(model)
    extra = {}
    if embedding_mean is not None:
        # The shortest decimals that read back as the same float32.
        values = ", ".join(str(value) for value in embedding_mean.float().cpu().numpy())
        extra[MEAN] = f"[{values}]"
    if collapsed is not None:
        extra[COLLAPSED] = collapsed
    write_artifact(model, Path(path), front_end, recipe, layout, extra)


def _save_weights(model: nn.Module, path: Path, layout: str) -> None:
    """Writes what a network that does not say how to rebuild it has for weights."""
    STORE.check_name(path)
    if layout != DENSE:
        architecture_of(model)  # says what is missing
    with replacing(path) as temporary:
        content = file_content(arrays_of(canonical_state(model)), {"format": "pt"})
        temporary.write_bytes(content)
    logger.warning(
        "'%s' holds the weights of a %s, and not how to rebuild it: that takes a network built with"
        " sparsify.build_model('module:factory', …)",
        path,
        type(model).__name__,
    )


def _default_front_end(model: nn.Module) -> FrontEnd:
    architecture = architecture_of(model)
    known = {} if architecture.is_code else default_options(architecture.name)
    options = {**known, **architecture.options}
    bins = {"num_mel_bins": options["feature_dim"]} if "feature_dim" in options else {}
    return validate(FrontEnd, bins, "the network's feature_dim")


def write_artifact(
    model: nn.Module,
    path: Path,
    front_end: FrontEnd,
    recipe: Recipe | None,
    layout: str,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """`save_model` for a front end that no recipe describes, with further metadata.

    Raises:
        SparsifyError: The model cannot be rebuilt from a file, or the file cannot be written.
    """
    STORE.check_name(path)
    STORE.check_layout(layout)
    state = canonical_state(model)
    metadata = {**provenance(model, state, front_end, recipe), **extra}
    include = recipe.model.include if recipe else ()
    prunable = prunable_parameters(model, include=include)
    write_tensors(path, arrays_of(state), metadata, layout, prunable)


def copy_artifact(artifact: Artifact, path: Path, layout: str) -> None:
    """Writes a `.safetensors` artifact in a layout, without building its network.

    Raises:
        SparsifyError: The tensors do not fit the architecture, or the file cannot be written.
    """
    state = {name: _canonical(tensor) for name, tensor in artifact.state.items()}
    prunable = [layer.name for layer in weights_table(artifact).prunable]
    write_tensors(path, arrays_of(state), artifact.metadata, layout, prunable)


def write_masks(artifact: Artifact, path: Path) -> None:
    """Writes which weights of a model are kept, for other tools.

    A `.safetensors` file of a boolean tensor for each prunable weight, under its name; the metadata
    have the model's `source_digest`.

    Raises:
        SparsifyError: The tensors do not fit the architecture.
        OSError: The file cannot be written.
    """
    names = [layer.name for layer in weights_table(artifact).prunable]
    masks = {name: artifact.arrays[name] != 0 for name in names}
    digest = {"source_digest": artifact.metadata["source_digest"]}
    path.write_bytes(file_content(masks, digest))


def canonical_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as artifacts store it: on the CPU, contiguous, `+0.0` for every `-0.0`."""
    return {name: _canonical(tensor) for name, tensor in model.state_dict().items()}


def _canonical(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_floating_point():
        return torch.where(tensor == 0, torch.zeros_like(tensor), tensor)
    return tensor.clone()
