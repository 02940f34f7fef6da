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

    A network of ours is not computed for that; one that is code runs once.

    Args:
        known: What the network is, if that is known.
        build: Makes the network, where its outline is not enough.
        frames: Of the utterance.
        bins: Filterbank bins per frame.

    Raises:
        SparsifyError: It does something that is not counted.
        RuntimeError: It does not take such features; also `ValueError` and `LookupError`.
    """
    outlined = known is not None and not known.is_code
    model = known.outline() if known is not None and outlined else build()
    feats = torch.zeros((1, frames, bins), device="meta" if outlined else "cpu")
    return uses_of(model.eval(), feats)
