"""Architectures by name: a model knows its own, so that an artifact can be rebuilt from disk."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from sparsify.errors import SparsifyError, did_you_mean
from sparsify.models.ecapa_tdnn import ECAPATDNN
from sparsify.models.resnet import ResNet

_FACTORIES: dict[str, Callable[..., nn.Module]] = {
    "ecapa-tdnn": ECAPATDNN,
    "ecapa-tdnn-512": partial(ECAPATDNN, channels=512),
    "ecapa-tdnn-1024": partial(ECAPATDNN, channels=1024),
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, blocks=(3, 4, 6, 3)),
    "resnet50": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=True),
    "resnet101": partial(ResNet, blocks=(3, 4, 23, 3), bottleneck=True),
    "resnet152": partial(ResNet, blocks=(3, 8, 36, 3), bottleneck=True),
    "resnet221": partial(ResNet, blocks=(6, 16, 48, 3), bottleneck=True),
    "resnet293": partial(ResNet, blocks=(10, 20, 64, 3), bottleneck=True),
}


@dataclass(frozen=True)
class Architecture:
    """What `build_model` needs to build the same network again.

    Attributes:
        name: A registered name, or for a user's own network `module:factory`, a `torch.nn.Module`
            class or a function annotated to return one.
        options: Keyword arguments of the factory; must be JSON values.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def model_names() -> list[str]:
    """The registered architectures, sorted."""
    return sorted(_FACTORIES)


def build_model(name: str, **options: Any) -> nn.Module:
    """Builds a network that maps features `(B, T, 80)` to embeddings `(B, D)`.

    Args:
        name: A registered name (`model_names()`) or `module:factory`.
        **options: Keyword arguments of the factory.

    Raises:
        SparsifyError: The name is unknown or an option does not fit.
    """
    factory = _factory(name)
    try:
        inspect.signature(factory).bind(**options)
        model = factory(**options)
    except (TypeError, ValueError, RuntimeError, LookupError) as error:
        raise SparsifyError(f"model '{name}' cannot be built with {options}: {error}") from error
    model.architecture = Architecture(name, options)  # type: ignore[assignment]
    return model


def architecture_of(model: nn.Module) -> Architecture:
    """The architecture `build_model` left on the model.

    Raises:
        SparsifyError: The model was not built by `build_model`.
    """
    architecture = getattr(model, "architecture", None)
    if not isinstance(architecture, Architecture):
        raise SparsifyError(
            f"{type(model).__name__} does not say how to rebuild it: build it with"
            " sparsify.build_model(name, …) or sparsify.build_model('module:factory', …)"
        )
    return architecture


def _factory(name: str) -> Callable[..., nn.Module]:
    if name in _FACTORIES:
        return _FACTORIES[name]
    if ":" not in name:
        raise SparsifyError(f"unknown model '{name}': {did_you_mean(name, model_names())}")
    module_name, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SparsifyError(
            f"cannot import model '{name}' (is its folder on PYTHONPATH?): {error}"
        ) from error
    if not _makes_networks(factory):
        raise SparsifyError(
            f"'{name}' does not make networks: name a torch.nn.Module class, or a function that is"
            " annotated to return one"
        )
    return factory


def _makes_networks(factory: object) -> bool:
    """Whether it is safe to call: names come from files too, and must not run just anything."""
    made = factory
    if inspect.isfunction(factory):
        try:
            made = inspect.signature(factory, eval_str=True).return_annotation
        except NameError:  # an annotation that only a type checker can resolve
            return False
    return inspect.isclass(made) and issubclass(made, nn.Module)
