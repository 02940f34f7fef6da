"""What an optimizer step works on."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Slot(NamedTuple):
    """A parameter and its state: the tensors as far as this process holds them, of one shape.

    Attributes:
        parameter: The parameter as the optimizer knows it.
        state: Its state in the optimizer.
        weight: The parameter's entries.
        dual: The dual variable `v`, or `None` where the weight itself moves.
        mask: Which weights may move, or `None` for all.
        first: Momentum, or Adam's first moment.
        second: Adam's second moment.
        steps: How many steps Adam's moments have seen, 0-dim.
    """

    parameter: Tensor
    state: dict[str, Any]
    weight: Tensor
    dual: Tensor | None
    mask: Tensor | None
    first: Tensor | None
    second: Tensor | None
    steps: Tensor | None

    def move(self, update: Tensor, delta: float) -> None:
        """Subtracts an update from the dual, or from the weight that has none."""
        if self.mask is not None:
            update = update * self.mask
        if self.dual is not None:
            self.dual.sub_(update)
        else:
            self.weight.sub_(update, alpha=delta)


def precise(tensor: Tensor) -> Tensor:
    """In float32 at least: times a learning rate, a half-precision number could vanish."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
