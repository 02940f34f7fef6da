"""The steps of the Bregman optimizers for many tensors at once: a few launches on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsify.optim.slots import Slot


def move(slots: Sequence[Slot], updates: Sequence[Tensor], delta: float) -> None:
    """`Slot.move` for all slots."""
    moving = [
        update if slot.mask is None else update * slot.mask
        for slot, update in zip(slots, updates, strict=True)
    ]
    pairs = list(zip(slots, moving, strict=True))
    duals = [(slot.dual, update) for slot, update in pairs if slot.dual is not None]
    weights = [(slot.weight, update) for slot, update in pairs if slot.dual is None]
    if duals:
        torch._foreach_sub_([dual for dual, _ in duals], [update for _, update in duals])
    if weights:
        own = [weight for weight, _ in weights]
        torch._foreach_sub_(own, [update for _, update in weights], alpha=delta)


def soft_threshold(values: Sequence[Tensor], limit: Tensor) -> list[Tensor]:
    """`L1.prox` for all tensors.

    Args:
        values: On one device.
        limit: 0-dim; the host does not look at it.
    """
    shrunk = list(torch._foreach_abs(list(values)))
    torch._foreach_add_(shrunk, limit, alpha=-1)
    torch._foreach_clamp_min_(shrunk, 0.0)
    torch._foreach_mul_(shrunk, torch._foreach_sign(list(values)))
    torch._foreach_add_(shrunk, 0.0)  # turns -0.0 into +0.0
    return shrunk
