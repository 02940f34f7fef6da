"""Which parameters may become sparse."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import prod

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from sparsify.errors import SparsifyError

_FOREIGN_MIN_SIZE = 64


def prunable_parameters(model: nn.Module, ignore: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """The weights of all convolutions and linear layers, by parameter name.

    Biases and norm parameters are never prunable. A weight shared by two layers appears once, and
    is protected under either name.

    Args:
        model: Any network; pass the embedding network without its training head.
        ignore: Glob patterns of parameter names to protect, such as `layer1.*`.

    Raises:
        SparsifyError: No parameter has a name that a pattern matches, so that it is a typo.
    """
    found: dict[str, nn.Parameter] = {}
    seen = _protected(model, [ignore] if isinstance(ignore, str) else ignore)
    for module_name, module in model.named_modules():
        if not isinstance(module, (_ConvNd, nn.Linear)):
            continue
        name = f"{module_name}.weight" if module_name else "weight"
        weight = module.weight
        if not isinstance(weight, nn.Parameter) or id(weight) in seen:
            continue
        seen.add(id(weight))
        found[name] = weight
    return found


def _protected(model: nn.Module, patterns: Sequence[str]) -> set[int]:
    """Identities of the parameters that patterns protect."""
    protected: set[int] = set()
    for pattern in patterns:
        named = model.named_parameters(remove_duplicate=False)
        matching = {id(parameter) for name, parameter in named if fnmatchcase(name, pattern)}
        if not matching:
            raise SparsifyError(
                f"ignore: no parameter of the network is called '{pattern}': the names are those of"
                " model.named_parameters(), and sparsify inspect --all lists them"
            )
        protected |= matching
    return protected


def prunable_tensor(tensor: torch.Tensor) -> bool:
    """Whether a tensor of a file that is not ours counts as prunable.

    Without the network at hand: a float tensor of two or more dimensions and more than 64 elements.
    """
    return tensor.is_floating_point() and looks_prunable(tensor.shape)


def looks_prunable(shape: Sequence[int]) -> bool:
    """Whether a tensor of a shape, in a file that is not ours, may be a prunable weight."""
    return len(shape) >= 2 and prod(shape) > _FOREIGN_MIN_SIZE
