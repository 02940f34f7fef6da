"""Parameter groups: what is regularised, and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from sparsify.optim.regularizers import L1, Regularizer
from sparsify.sparsity.prunable import prunable_parameters


def parameter_groups(
    model: nn.Module, regularizer: Regularizer | None = None, ignore: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Splits a network's parameters into optimizer groups.

    Args:
        model: The network to make sparse.
        regularizer: For the prunable weights; ℓ1 when not given.
        ignore: Glob patterns of parameter names to protect.

    Raises:
        SparsifyError: A pattern matches no parameter.

    Returns:
        A group of the prunable weights with `regularizer` and `lambda_scale` (its share of λ), and
        a group of all others with `regularizer=None`.
    """
    prunable = list(prunable_parameters(model, ignore).values())
    chosen = {id(p) for p in prunable}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": prunable, "regularizer": regularizer or L1(), "lambda_scale": 1.0},
        {"params": rest, "regularizer": None},
    ]
    return [group for group in groups if group["params"]]
