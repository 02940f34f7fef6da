"""Recipes at another width of the network, and the charts' points for them."""

from __future__ import annotations

from typing import Any

from sparsify.methods.registry import resolve
from sparsify.models.registry import Architecture
from sparsify.models.widths import options_of_width, width_of
from sparsify.recipe.recipe import Recipe

_RATES, _DECAYS = ("lr", "latent_lr"), ("weight_decay", "latent_decay")
EXPONENT = 0.5  # of the rule for rates; chosen on validation speakers, docs/compare.md


def at_width(recipe: Recipe, width: int) -> Recipe:
    """The recipe for a network of another width, trained for as many steps.

    Learning rates are scaled by the root of old over new width. Decays, which act as a product with
    the rate, are scaled the other way, so that this product stays.

    Args:
        recipe: With the rates of its own width.
        width: Of the network, see `sparsify.models.widths`.

    Raises:
        SparsifyError: The network has no width, or an option of the method does not fit.
    """
    model = recipe.model
    architecture = Architecture(model.name, model.options)
    factor = (width_of(architecture) / width) ** EXPONENT
    options: dict[str, Any] = dict(resolve(recipe).methods[recipe.method])
    options |= {name: options[name] * factor for name in _RATES if name in options}
    options |= {name: options[name] / factor for name in _DECAYS if name in options}
    own = {"options": options_of_width(architecture, width)}
    update = {"model": model.model_copy(update=own), "methods": {recipe.method: options}}
    return recipe.model_copy(update=update)
