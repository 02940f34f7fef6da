"""How often the weights of a network multiply for one utterance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparsify.models.registry import Architecture
from sparsify.sparsity.uses import uses_of


def weight_uses(
    known: Architecture | None, build: Callable[[], nn.Module], frames: int, bins: int
) -> dict[str, Tensor]:
    """How often each weight multiplies, see `sparsify.sparsity.uses.uses_of`.

    A network of ours runs with zeros, which takes less time than PyTorch's import of what runs it
    without values; one that is code runs as it is.

    Args:
        known: What the network is, if that is known.
        build: Makes the network, where its outline is not enough.
        frames: Of the utterance.
        bins: Filterbank bins per frame.

    Raises:
        SparsifyError: It does something that is not counted.
        RuntimeError: It does not take such features; also `ValueError` and `LookupError`.
    """
    model = _zeros(known) if known is not None and not known.is_code else build()
    return uses_of(model.eval(), torch.zeros((1, frames, bins)))


def _zeros(known: Architecture) -> nn.Module:
    model = known.outline()
    state = {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype)
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state, assign=True)
    return model
