"""The network of a run, checked before anything is trained."""

from __future__ import annotations

import fnmatch

import torch
from torch import Tensor, nn

from sparsify.artifact import load_artifact
from sparsify.errors import SparsifyError
from sparsify.models.registry import build_model
from sparsify.recipe import Recipe
from sparsify.sparsity.prunable import prunable_parameters


def build_network(recipe: Recipe) -> nn.Module:
    """The recipe's network with its first random weights.

    Raises:
        SparsifyError: The model is unknown, or a pattern of `model.ignore` protects nothing, which
            is a typo, or they leave nothing to prune.
    """
    torch.manual_seed(recipe.seed)
    network = build_model(recipe.model.name, **recipe.model.options)
    names = [name for name, _ in network.named_parameters()]
    for pattern in recipe.model.ignore:
        if not fnmatch.filter(names, pattern):
            raise SparsifyError(
                f"model.ignore: no parameter of '{recipe.model.name}' is called '{pattern}':"
                " sparsify inspect RUN --all lists their names"
            )
    if not prunable_parameters(network, recipe.model.ignore):
        raise SparsifyError(
            f"nothing is left to prune in '{recipe.model.name}': it has no convolutions or linear"
            " layers, or model.ignore protects them all"
        )
    return network


def starting_weights(recipe: Recipe) -> dict[str, Tensor] | None:
    """The state dict that the recipe's network starts from, or `None` if it starts at random.

    Raises:
        SparsifyError: `model.init_from` cannot be read or does not fit the network.
    """
    if recipe.model.init_from is None:
        return None
    network = build_network(recipe)
    load_artifact(recipe.model.init_from).load_into(network, recipe.front_end)
    return network.state_dict()


def embedding_dim(network: nn.Module, recipe: Recipe) -> int:
    """Size of the embedding, found by trying.

    Raises:
        SparsifyError: The network does not map features `(B, T, F)` to embeddings `(B, D)`.
    """
    feats = torch.zeros(2, 100, recipe.front_end.num_mel_bins)
    network.eval()
    try:
        with torch.inference_mode():
            shape = network(feats).shape
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise SparsifyError(
            f"model '{recipe.model.name}' does not accept features (B, T,"
            f" {recipe.front_end.num_mel_bins}): {error}"
        ) from error
    if len(shape) != 2 or shape[0] != 2:
        raise SparsifyError(
            f"model '{recipe.model.name}' must map features (B, T, F) to embeddings (B, D),"
            f" but (2, 100, {recipe.front_end.num_mel_bins}) gave {tuple(shape)}"
        )
    return int(shape[1])
