"""The options that describe a recipe, and the recipe that they describe.

What is wrong with them is told before torch is imported, as far as that can be known.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from sparsify.cli.types import Assignment, Existing, Name
from sparsify.methods.names import method_names
from sparsify.models import toolkits
from sparsify.models.names import check_model, model_names
from sparsify.recipe.words import SYNTHETIC, recipe_names
from sparsify.training.network_choice import network_assignments
from sparsify.user_cache import Shelf, code_digest

if TYPE_CHECKING:
    from sparsify.recipe.recipe import Recipe

_SHELF = Shelf("settings", 1 << 16)


def _keys() -> Iterator[str]:
    """What `--set` takes; the options of a method are not known without torch.

    The others are kept in the user's cache: what reads recipes takes long to import.
    """
    digest = code_digest("sparsify.recipe")
    kept = _SHELF.get(digest)
    if kept is None:
        # TAB elsewhere, and help, do not wait for it.
        from sparsify.recipe.recipe import Recipe  # noqa: PLC0415

        kept = " ".join(key for key in Recipe.setting_names() if key != "methods").encode()
        _SHELF.put(digest, kept)
    yield from kept.decode().split()
    yield from (f"methods.{name}." for name in method_names())


set_option = click.option(
    "--set",
    "assignments",
    type=Assignment(_keys),
    multiple=True,
    metavar="key=value",
    help="Override a recipe key.",
)
_OPTIONS = (
    click.option(
        "--recipe",
        type=Name(recipe_names, files=True),
        metavar="NAME|FILE",
        help="A shipped recipe or a YAML file; quickstart for synthetic speakers, else speech-mini."
        f" Shipped: {', '.join(recipe_names())}.",
    ),
    click.option(
        "--data",
        type=Name(lambda: [SYNTHETIC], files=True),
        metavar="PATH|synthetic",
        help="Folder with one folder of audio files per speaker, another corpus or a manifest (see"
        " sparsify data prepare).",
    ),
    click.option(
        "--validation-trials",
        type=Name(tuple, files=True),
        metavar="FILE",
        help="Validate on this trial list, in place of speakers held out of --data.",
    ),
    click.option(
        "--validation-root",
        type=Name(tuple, files=True),
        metavar="DIR",
        help="Folder that the names in --validation-trials start from.",
    ),
    click.option(
        "--model",
        type=Name(model_names, check_model),
        metavar="NAME|module:factory",
        help=f"Architecture: {', '.join(model_names())}, or your own.",
    ),
    click.option(
        "--init-from",
        type=Existing("--init-from: no such file: '{}'"),
        metavar="PATH",
        help="Start from a run directory, an artifact, a state dict or a model"
        f" of {toolkits.names()}; network and front end are its own.",
    ),
    set_option,
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--recipe`, `--data` and those of validation, `--model`, `--init-from` and `--set`."""

    @functools.wraps(command)
    def checked(*, init_from: Any, **others: Any) -> Any:
        given = {**others, "init_from": init_from and str(init_from)}
        if init_from is None:
            described_recipe(given, trust=True)
        return command(**given)

    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), checked)


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
    from sparsify.recipe.recipe import load_recipe  # noqa: PLC0415 - help does not wait for it

    data, recipe = given.get("data"), given.get("recipe")
    if recipe is None:
        recipe = "quickstart" if data in (None, SYNTHETIC) else "speech-mini"
    named = {
        "data.path": data,
        "data.validation_trials": given.get("validation_trials"),
        "data.validation_root": given.get("validation_root"),
    }
    speech = {key: value for key, value in named.items() if value is not None}
    network = network_assignments(given.get("model"), given.get("init_from"), trust=trust)
    assignments = [*network, *given.get("assignments", ())]
    return load_recipe(recipe, assignments, speech | dict(changes or {}))
