"""Architectures by name: a model knows its own, so that an artifact can be rebuilt from disk.

Importing this module takes no torch; building something does.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, cast

from sparsify.errors import SparsifyError, did_you_mean
from sparsify.models.names import SHIPPED, Widths, check_model, names_code
from sparsify.named import named

if TYPE_CHECKING:
    from torch import nn

_MOST_SHOWN = 200  # characters of options in an error


@dataclass(frozen=True)
class Architecture:
    """What it takes to build the same network again.

    Attributes:
        name: A registered name, or for a user's own network `module:factory`.
        options: Keyword arguments of the factory; must be JSON values.
        widths: Where channels were taken out of it, what is smaller than the factory makes it.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    widths: Widths = field(default_factory=dict)

    @property
    def is_code(self) -> bool:
        """Whether building it imports and calls code that is not ours."""
        return names_code(self.name)

    def to_json(self) -> dict[str, Any]:
        """`name options`, and `widths` where there are any."""
        widths = {"widths": dict(self.widths)} if self.widths else {}
        return {"name": self.name, "options": dict(self.options)} | widths

    def outline(self) -> nn.Module:
        """The network of a registered name without values, on the device `meta`.

        Takes no memory, so that options from a file can be checked before they are obeyed.

        Raises:
            SparsifyError: The name is none of ours, or an option does not fit.
        """
        if self.is_code:
            raise SparsifyError(f"'{self.name}' is code: its outline is not known")
        import torch  # noqa: PLC0415

        with torch.device("meta"):
            return _build(self)

    def build(self) -> nn.Module:
        """The network with random weights; of `module:factory`, this runs that code.

        Raises:
            SparsifyError: The name is unknown or an option does not fit.
        """
        model = _build(self)
        with errors_of(self.name):
            model.architecture = self  # type: ignore[assignment]
        return model


def require_trust(name: str, source: str, *, trust: bool) -> None:
    """Refuses to run code that only a file has named.

    Args:
        name: Of an architecture.
        source: Where it was read, such as "'run/recipe.yaml'".
        trust: Whether the user has said that this file may name code.

    Raises:
        SparsifyError: The name is `module:factory`, and nobody but the file vouches for it.
    """
    if names_code(name) and not trust:
        raise SparsifyError(
            f"{source} names code for its network, '{name}', which would be imported and run: add"
            " --trust (in Python trust=True) if you trust whoever made the file"
        )


@contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Within it, whatever the code behind `module:factory` raises becomes a sentence that names it.

    Args:
        name: Of an architecture; if it is ours, what is raised is let through.

    Raises:
        SparsifyError: The code is not ours, and raised something or wanted to end the process.
    """
    try:
        yield
    except SparsifyError:
        raise
    except (Exception, SystemExit) as error:
        if not names_code(name):
            raise
        raise SparsifyError(
            f"the code of '{name}' raised {type(error).__name__}: {error}"
        ) from error


def build_model(name: str, /, **options: Any) -> nn.Module:
    """Builds a network that maps features `(B, T, 80)` to embeddings `(B, D)`.

    Args:
        name: A registered name (`model_names()`), or `module:factory` for a network of your own:
            anything that returns a `torch.nn.Module` when called.
        **options: Keyword arguments of the factory.

    Raises:
        SparsifyError: The name is unknown or an option does not fit.
    """
    return Architecture(name, options).build()


def default_options(name: str) -> dict[str, Any]:
    """What the factory of an architecture takes where an option is not given.

    Raises:
        SparsifyError: The name is unknown; or its code, of `module:factory`, cannot be imported.
    """
    parameters = inspect.signature(_factory(name)).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def can_be_rebuilt(model: nn.Module) -> bool:
    """Whether a model says how it was built."""
    return isinstance(getattr(model, "architecture", None), Architecture)


def architecture_of(model: nn.Module) -> Architecture:
    """The architecture `build_model` left on the model.

    Raises:
        SparsifyError: The model was not built by `build_model`.
    """
    if not can_be_rebuilt(model):
        raise SparsifyError(
            f"{type(model).__name__} does not say how to rebuild it: build it with"
            " sparsify.build_model(name, …) or sparsify.build_model('module:factory', …)"
        )
    return cast(Architecture, model.architecture)


def _build(architecture: Architecture) -> nn.Module:
    from torch import nn  # noqa: PLC0415

    from sparsify.models.narrowing import narrow  # noqa: PLC0415

    name, options = architecture.name, architecture.options
    factory = _factory(name)
    try:
        signature = inspect.signature(factory)
        _check_options(name, options, signature)
        signature.bind(**options)
        with errors_of(name):
            model = factory(**options)
    except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())[:_MOST_SHOWN]
        raise SparsifyError(f"model '{name}' cannot be built with {given}: {error}") from error
    if not isinstance(model, nn.Module):
        raise SparsifyError(
            f"'{name}' made no network but a {type(model).__name__}: name a torch.nn.Module class,"
            " or a function that returns one"
        )
    narrow(model, architecture.widths, name)
    return model


def _check_options(name: str, options: Mapping[str, Any], signature: inspect.Signature) -> None:
    """Refuses unknown options; and of our own networks, what is no number where one belongs."""
    known = signature.parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in known.values())
    for key, value in options.items():
        if key not in known:
            if takes_any:
                continue
            raise SparsifyError(
                f"model '{name}': unknown option '{key}', {did_you_mean(key, known)}"
            )
        counts = name in SHIPPED and type(known[key].default) in (int, float)
        number = isinstance(value, Real) and not isinstance(value, bool)
        if counts and not (number or value is None):
            raise SparsifyError(
                f"model '{name}': {key} = {value!r:.{_MOST_SHOWN}} does not fit:"
                f" it must be a number, as {known[key].default} is"
            )


def _factory(name: str) -> Callable[..., Any]:
    if name in SHIPPED:
        shipped = SHIPPED[name]
        made: Callable[..., Any] = named(shipped.home)
        return partial(made, **shipped.options) if shipped.options else made
    check_model(name)
    module_name, _, attribute = name.partition(":")
    with errors_of(name):
        try:
            factory = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise SparsifyError(
                f"cannot import model '{name}' (is its folder on PYTHONPATH?): {error}"
            ) from error
    if not callable(factory):
        raise SparsifyError(f"'{name}' cannot be called: name a class or a function")
    return factory
