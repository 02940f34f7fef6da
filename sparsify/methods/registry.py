"""Methods by name."""

from __future__ import annotations

from typing import Any

from sparsify.errors import SparsifyError, did_you_mean
from sparsify.methods.base import Method, Task
from sparsify.methods.bregman import AdaBregMethod, LinBregMethod
from sparsify.methods.dense import Dense
from sparsify.methods.fixed_lambda import AdaBregFixed, LinBregFixed
from sparsify.methods.magnitude import GMP, OneShot
from sparsify.methods.prescribed_l1 import PrescribedL1
from sparsify.methods.proximal import ProxSGDMethod
from sparsify.methods.rewa import ReWA
from sparsify.methods.rigl import RigL
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.validation import Section, validate

# In the order in which charts give them colours.
_METHODS: dict[str, type[Method[Any]]] = {
    "adabreg": AdaBregMethod,
    "linbreg": LinBregMethod,
    "gmp": GMP,
    "one-shot": OneShot,
    "rigl": RigL,
    "rewa": ReWA,
    "prescribed-l1": PrescribedL1,
    "adabreg-fixed": AdaBregFixed,
    "linbreg-fixed": LinBregFixed,
    "prox-sgd": ProxSGDMethod,
    "dense": Dense,
}


def method_names() -> list[str]:
    """The registered methods."""
    return list(_METHODS)


def pursues_target(name: str) -> bool:
    """Whether the recipe's target sparsity makes any difference to a method.

    Raises:
        SparsifyError: The method is unknown.
    """
    return _method(name).pursues_target


def depends_on_target(name: str, option: str) -> bool:
    """Whether the right value of a method's option is another one for every target.

    Raises:
        SparsifyError: The method is unknown.
    """
    return option in _method(name).of_one_target


def option_names(name: str) -> list[str]:
    """The options of a method.

    Raises:
        SparsifyError: The method is unknown.
    """
    return list(_method(name).Options.model_fields)


def method_options(recipe: Recipe) -> Section:
    """The validated options of the recipe's method.

    Raises:
        SparsifyError: A method is unknown, or an option of the chosen one does not fit, or they do
            not serve the target.
    """
    for name in recipe.methods:
        _method(name)
    content = recipe.methods.get(recipe.method, {})
    method = _method(recipe.method)
    options: Section = validate(method.Options, content, f"methods.{recipe.method}")
    method.check_target(options, recipe.target_sparsity)
    return options


def with_all_options(recipe: Recipe) -> Recipe:
    """The recipe with all options of its method, and none of others.

    Raises:
        SparsifyError: See `method_options`.
    """
    options = method_options(recipe).model_dump(mode="json")
    return recipe.model_copy(update={"methods": {recipe.method: options}})


def same_training(recipe: Recipe, other: Recipe) -> bool:
    """Whether two recipes say the same, be it in other words: by defaults, or for other methods.

    Raises:
        SparsifyError: See `method_options`.
    """
    return with_all_options(recipe) == with_all_options(other)


def build_method(recipe: Recipe, task: Task) -> Method[Any]:
    """Sets up the recipe's method for a network.

    Raises:
        SparsifyError: See `method_options`.
    """
    return _METHODS[recipe.method](task, method_options(recipe))


def _method(name: str) -> type[Method[Any]]:
    if name not in _METHODS:
        raise SparsifyError(f"unknown method '{name}': {did_you_mean(name, _METHODS)}")
    return _METHODS[name]
