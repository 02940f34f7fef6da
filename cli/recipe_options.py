"""The options that describe a recipe, and the recipe that they describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import click

from sparsify.models import toolkits
from sparsify.models.registry import model_names
from sparsify.recipe.recipe import Recipe, load_recipe, recipe_names
from sparsify.recipe.sections import SYNTHETIC
from sparsify.training.starting_network import network_assignments

set_option = click.option(
    "--set", "assignments", multiple=True, metavar="key=value", help="Override a recipe key."
)
_OPTIONS = (
    click.option(
        "--recipe",
        metavar="NAME|FILE",
        help="A shipped recipe or a YAML file; quickstart for synthetic speakers, else speech-mini."
        f" Shipped: {', '.join(recipe_names())}.",
    ),
    click.option(
        "--data",
        metavar="PATH|synthetic",
        help="Folder with one folder of audio files per speaker, another corpus or a manifest (see"
        " sparsify data prepare).",
    ),
    click.option(
        "--validation-trials",
        metavar="FILE",
        help="Validate on this trial list, in place of speakers held out of --data.",
    ),
    click.option(
        "--validation-root",
        metavar="DIR",
        help="Folder that the names in --validation-trials start from.",
    ),
    click.option(
        "--model",
        metavar="NAME|module:factory",
        help=f"Architecture: {', '.join(model_names())}, or your own.",
    ),
    click.option(
        "--init-from",
        metavar="PATH",
        help="Start from a run directory, an artifact, a state dict or a model"
        f" of {toolkits.names()}; network and front end are its own.",
    ),
    set_option,
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--recipe`, `--data` and those of validation, `--model`, `--init-from` and `--set`."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def described_recipe(
    given: Mapping[str, Any], changes: Mapping[str, Any] | None = None, *, trust: bool
) -> Recipe:
    """The recipe that the options of a command describe.

    Args:
        given: The options by name; of those of `recipe_options` some may be missing.
        changes: Dotted keys and values that other options stand for.
        trust: Whether the model to start from may name code as its network.

    Raises:
        SparsifyError: An option does not fit, or a file cannot be read or is not trusted.
    """
    data, recipe = given.get("data"), given.get("recipe")
    if recipe is None:
        recipe = "quickstart" if data in (None, SYNTHETIC) else "speech-mini"
    network = network_assignments(given.get("model"), given.get("init_from"), trust=trust)
    named = {
        "data.path": data,
        "data.validation_trials": given.get("validation_trials"),
        "data.validation_root": given.get("validation_root"),
    }
    speech = {key: value for key, value in named.items() if value is not None}
    assignments = [*network, *given.get("assignments", ())]
    return load_recipe(recipe, assignments, speech | dict(changes or {}))
