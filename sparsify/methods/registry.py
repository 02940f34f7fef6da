"""Methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from sparsify.methods.names import METHODS, check_method
from sparsify.named import named
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.validation import Section, validate

if TYPE_CHECKING:
    from sparsify.methods.base import Method, Task


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


def options_of(name: str) -> type[Section]:
    """The section of a recipe that holds a method's options.

    Raises:
        SparsifyError: The method is unknown.
    """
    section: type[Section] = _method(name).Options
    return section


def option_names(name: str) -> list[str]:
    """The options of a method.

    Raises:
        SparsifyError: The method is unknown.
    """
    return list(options_of(name).model_fields)


_RESOLVED = {"method", "methods", "target_sparsity", "target_macs", "options"}


class ResolvedRecipe(Recipe):
    """A recipe with all options of its method, which fit, and none of others; see `resolve`.

    Attributes:
        options: The validated options of the method.
    """

    options: Section = Field(exclude=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, but not of what the options belong to.

        Raises:
            ValueError: Those change: change the recipe before it is resolved.
        """
        if fixed := _RESOLVED & (update or {}).keys():
            raise ValueError(f"resolved already, so that {min(fixed)} stays: change it before")
        return super().model_copy(update=update, deep=deep)


def resolve(recipe: Recipe) -> ResolvedRecipe:
    """Validates the options of the recipe's method, once: what is resolved stays as it is.

    Two recipes say the same, be it in other words, if they are equal when resolved.

    Raises:
        SparsifyError: A method is unknown, or an option of the chosen one does not fit, or they do
            not serve the target.
    """
    if isinstance(recipe, ResolvedRecipe):
        return recipe
    for name in recipe.methods:
        _method(name)
    content = recipe.methods.get(recipe.method, {})
    method = _method(recipe.method)
    options = validate(method.Options, content, f"methods.{recipe.method}")
    method.check_target(options, recipe.target_sparsity)
    methods = {recipe.method: options.model_dump(mode="json")}
    return ResolvedRecipe.model_construct(
        **(dict(recipe) | {"methods": methods, "options": options})
    )


def check_start(recipe: ResolvedRecipe, task: Task) -> None:
    """Refuses, before anything takes long, a network that the recipe's method cannot start from.

    Raises:
        SparsifyError: It is sparser than the target, and the method revives nothing.
    """
    _method(recipe.method).check_start(task)


def build_method(recipe: ResolvedRecipe, task: Task) -> Method[Any]:
    """Sets up the recipe's method for a network.

    Raises:
        SparsifyError: The method cannot work on this network.
    """
    return _method(recipe.method)(task, recipe.options)


def _method(name: str) -> type[Method[Any]]:
    check_method(name)
    method: type[Method[Any]] = named(METHODS[name])
    return method
