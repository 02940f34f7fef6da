"""Recipes at another width of the network."""

from __future__ import annotations

from typing import Any

from sparsify.methods.registry import resolve
from sparsify.models.registry import Architecture
from sparsify.models.widths import options_of_width, width_of
from sparsify.recipe.recipe import Recipe

_RATES = ("lr", "latent_lr")


def at_width(recipe: Recipe, width: int) -> Recipe:
    """The recipe for a network of another width, trained for as many steps.

    In a wider network more weights add up in every activation, so that its rates are smaller by as
    much as it is wider (arXiv 2203.03466, for Adam). A narrower one keeps the rates: it was no
    better with larger ones, see docs/compare.md.

    Args:
        recipe: With the rates of its own width.
        width: Of the network, see `sparsify.models.widths`.

    Raises:
        SparsifyError: The network has no width, or an option of the method does not fit.
    """
    model = recipe.model
    architecture = Architecture(model.name, model.options)
    factor = min(1.0, width_of(architecture) / width)
    options: dict[str, Any] = dict(resolve(recipe).methods[recipe.method])
    options |= {name: options[name] * factor for name in _RATES if name in options}
    own = {"options": options_of_width(architecture, width)}
    update = {"model": model.model_copy(update=own), "methods": {recipe.method: options}}
    return recipe.model_copy(update=update)
