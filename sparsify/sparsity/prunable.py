"""Which parameters may become sparse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvNd

from sparsify.errors import SparsifyError


def prunable_parameters(
    model: nn.Module, ignore: Sequence[str] = (), include: Sequence[str] = ()
) -> dict[str, nn.Parameter]:
    """The weights of all convolutions and linear layers, by parameter name, and what is included.

    Biases and norm parameters are never prunable. A weight shared by two layers appears once, and
    is protected under either name.

    Args:
        model: Any network; pass the embedding network without its training head.
        ignore: Glob patterns of parameter names to protect, such as `layer1.*`.
        include: Glob patterns of other parameters to prune, such as `lstm.*`: of those that match,
            all of two or more dimensions. What is protected stays so.

    Raises:
        SparsifyError: A pattern matches no parameter, or one of `include` none of two dimensions,
            so that it is a typo.
    """
    found: dict[str, nn.Parameter] = {}
    seen = {id(parameter) for parameter in _matching(model, ignore, "ignore")}
    included = {id(parameter) for parameter in _matching(model, include, "include", dimensions=2)}
    for module_name, module in model.named_modules():
        weighted = isinstance(module, (_ConvNd, nn.Linear))
        for name, parameter in module.named_parameters(module_name, recurse=False):
            ours = weighted and parameter is module.weight
            if id(parameter) not in seen and (ours or id(parameter) in included):
                seen.add(id(parameter))
                found[name] = parameter
    return found


def _matching(
    model: nn.Module, patterns: Sequence[str], option: str, dimensions: int = 0
) -> Iterator[nn.Parameter]:
    """The parameters that patterns match, of so many dimensions at least."""
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        named = model.named_parameters(remove_duplicate=False)
        matching = [parameter for name, parameter in named if fnmatchcase(name, pattern)]
        if not matching:
            raise SparsifyError(
                f"{option}: no parameter of the network is called '{pattern}': the names are those"
                " of model.named_parameters(), and sparsify inspect --all lists them"
            )
        large = [parameter for parameter in matching if parameter.dim() >= dimensions]
        if not large:
            raise SparsifyError(
                f"{option}: '{pattern}' matches biases and norms alone, which are never pruned"
            )
        yield from large
