"""The network of a run, checked before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsify.artifact.loading import load_artifact
from sparsify.errors import SparsifyError
from sparsify.methods.base import Task
from sparsify.methods.registry import pursues_target
from sparsify.models.registry import Architecture
from sparsify.recipe.recipe import Recipe
from sparsify.sparsity.counting import sparsity_table
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.training.checkpoints import fitting
from sparsify.training.distributed import Processes
from sparsify.training.embedding_size import embedding_size
from sparsify.training.multiply_adds import MultiplyAdds, multiply_adds_of
from sparsify.training.run_directory import RunDirectory

logger = logging.getLogger(__name__)

_SHOWN = 3
_SPARSE = 0.01  # a dense network may have a zero by chance


def with_target_of_start(recipe: Recipe) -> Recipe:
    """The recipe, to end as sparse as the model that it starts from if it says no target.

    Raises:
        SparsifyError: See `start_of`; or the model has been shrunk, and has no zeros to be kept.
    """
    said = recipe.model_fields_set & {"target_sparsity", "target_macs"}
    if said or recipe.model.init_from is None:
        return recipe
    network = _build_network(recipe)
    _starting_weights(recipe, network)
    sparsity = sparsity_table(network, *recipe.model.selection).sparsity
    if not _SPARSE <= sparsity < 1:
        if recipe.model.widths and pursues_target(recipe.method):
            raise SparsifyError(
                f"'{recipe.model.init_from}' has been shrunk and has no zeros to keep: fine-tune it"
                " with --method dense, or say how sparse it shall be with --target-sparsity"
            )
        return recipe
    return recipe.model_copy(update={"target_sparsity": sparsity})


def _build_network(recipe: Recipe) -> nn.Module:
    """The recipe's network with its first random weights.

    Raises:
        SparsifyError: The model is unknown or complex, or a pattern of `model.ignore` protects
            nothing, which is a typo, or they leave nothing to prune.
    """
    torch.manual_seed(recipe.seed)
    network = Architecture(recipe.model.name, recipe.model.options, recipe.model.widths).build()
    if any(parameter.is_complex() for parameter in network.parameters()):
        raise SparsifyError(
            f"'{recipe.model.name}' has complex parameters, which cannot be trained here: hold real"
            " and imaginary parts apart"
        )
    if not prunable_parameters(network, *recipe.model.selection):
        raise SparsifyError(
            f"nothing is left to prune in '{recipe.model.name}': it has no convolutions or linear"
            " layers, or model.ignore protects them all"
        )
    return network


def _starting_weights(recipe: Recipe, network: nn.Module) -> dict[str, Tensor] | None:
    """Gives the recipe's network the weights of `model.init_from`, and returns copies of them.

    Returns:
        The state dict; `None` if the network starts with its random weights.

    Raises:
        SparsifyError: `model.init_from` cannot be read or does not fit the network.
    """
    origin = recipe.model.init_from
    if origin is None:
        return None
    load_artifact(origin).load_into(network, recipe.front_end)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@dataclass(frozen=True)
class StartingNetwork:
    """The network of a run as its training begins. It is built this one time.

    Attributes:
        network: On the CPU, with the weights that it starts from.
        embedding_dim: Size of its embeddings.
        weights: Copies of its weights where another model gave them; `None` if they are random.
        random_state: Torch's when the network had drawn its weights, for what is drawn next.
        target_sparsity: What the recipe's target asks of the prunable weights: a share of them or,
            where multiply-adds are the target, of theirs.
        multiply_adds: Those of the network, where they are the target.
    """

    network: nn.Module
    embedding_dim: int
    weights: Mapping[str, Tensor] | None
    random_state: Tensor
    target_sparsity: float
    multiply_adds: MultiplyAdds | None = None

    def task(self, recipe: Recipe, head: nn.Module) -> Task:
        """What the method of a recipe is told; `head` is the training-only classifier."""
        return Task(
            self.network,
            head,
            self.target_sparsity,
            recipe.model.selection,
            recipe.training.steps,
            recipe.seed,
            pretrained=self.weights is not None,
            costs=self.multiply_adds.costs if self.multiply_adds else {},
            bins=recipe.front_end.num_mel_bins,
            keep_layers=recipe.model.keep_layers,
        )


def _start_with(
    recipe: Recipe, network: nn.Module, weights: Mapping[str, Tensor] | None
) -> StartingNetwork:
    """The start of a training from a network that `_build_network` has just built.

    Args:
        recipe: Of the run.
        network: Its network.
        weights: State dict to start from; `None` keeps the random weights.

    Raises:
        SparsifyError: The network does not map features `(B, T, F)` to embeddings `(B, D)`, or the
            target in multiply-adds cannot be reached.
    """
    if weights is not None:
        network.load_state_dict(weights)
    size = embedding_size(network, recipe.model.name, recipe.front_end.num_mel_bins)
    state = torch.get_rng_state()
    _warn_of_unused(network, recipe)
    if recipe.target_macs is None:
        assert recipe.target_sparsity is not None  # one of both is given
        return StartingNetwork(network, size, weights, state, recipe.target_sparsity)
    counted = multiply_adds_of(recipe, network)
    target = counted.sparsity_for(recipe.target_macs, network, recipe.model.selection)
    return StartingNetwork(network, size, weights, state, target, counted)


def start_of(recipe: Recipe) -> StartingNetwork:
    """The start of a training of its own, from the model that the recipe names, if any.

    Raises:
        SparsifyError: The network cannot be built or trained, or `model.init_from` cannot be read
            or does not fit it.
    """
    network = _build_network(recipe)
    return _start_with(recipe, network, _starting_weights(recipe, network))


def start_of_run(
    recipe: Recipe, run: RunDirectory, together: Processes, *, resume: bool
) -> StartingNetwork:
    """The start of a run; the main process reads the weights for all.

    Args:
        recipe: Of the run.
        run: Its directory, which has the weights if it is resumed.
        together: The processes that train it.
        resume: Whether it goes on.

    Raises:
        SparsifyError: See `start_of`; or the run was begun with weights that do not fit any more.
    """
    network = _build_network(recipe)
    weights = together.from_main(lambda: _weights_of_run(recipe, run, network, resume=resume))
    return _start_with(recipe, network, weights)


def _weights_of_run(
    recipe: Recipe, run: RunDirectory, network: nn.Module, *, resume: bool
) -> dict[str, Tensor] | None:
    """The weights to start from, if they are not random; the network has them."""
    if resume and recipe.model.init_from is not None:
        with fitting(run.path):
            weights: dict[str, Tensor] | None = run.load_start()["weights"]
            if weights is not None:
                network.load_state_dict(weights)
                return weights
        # The run began at random, and its recipe has been changed.
    return _starting_weights(recipe, network)


def _warn_of_unused(network: nn.Module, recipe: Recipe) -> None:
    """Names the prunable weights that have no part in an embedding: they never get a gradient."""
    weights = prunable_parameters(network, *recipe.model.selection)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        embeddings = network(torch.zeros(2, 100, recipe.front_end.num_mel_bins))
        if not embeddings.requires_grad:  # training will tell
            return
        learnt = [weight for weight in weights.values() if weight.requires_grad]
        found = torch.autograd.grad(embeddings.sum(), learnt, allow_unused=True)
    idle = {id(w) for w, gradient in zip(learnt, found, strict=True) if gradient is None}
    if names := [name for name, weight in weights.items() if id(weight) in idle]:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        logger.warning(
            "the network does not use %s%s, whose zeros count all the same: protect what it does"
            " not use with --set 'model.ignore=[…]', or take it out",
            ", ".join(names[:_SHOWN]),
            more,
        )
