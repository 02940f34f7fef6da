"""What an optimizer step works on."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Slot(NamedTuple):
    """A parameter in one step: its tensors as far as this process holds them, all of one shape.

    Attributes:
        parameter: The parameter as the optimizer knows it.
        weight: Its entries.
        gradient: Theirs.
        dual: The dual variable `v`, or `None` where the weight itself moves.
        mask: Which weights may move, or `None` for all.
        first: Momentum, or Adam's first moment.
        second: Adam's second moment.
        step: Number of this step for the parameter, from 1.
    """

    parameter: Tensor
    weight: Tensor
    gradient: Tensor
    dual: Tensor | None
    mask: Tensor | None
    first: Tensor | None
    second: Tensor | None
    step: int

    def move(self, update: Tensor, delta: float) -> None:
        """Subtracts an update from the dual, or from the weight that has none."""
        if self.mask is not None:
            update = update * self.mask
        if self.dual is not None:
            self.dual.sub_(update)
        else:
            self.weight.sub_(update, alpha=delta)
