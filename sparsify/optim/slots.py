"""What an optimizer step works on."""

from __future__ import annotations

from operator import is_
from typing import Any, NamedTuple

from torch import Tensor


class Slot(NamedTuple):
    """A parameter and its state: the tensors as far as this process holds them, of one shape.

    Attributes:
        parameter: The parameter as the optimizer knows it.
        state: Its state in the optimizer.
        values: The values of the state when this slot was made.
        weight: The parameter's entries.
        dual: The dual variable `v`, or `None` where the weight itself moves.
        mask: Which weights may move, or `None` for all.
        first: Momentum, or Adam's first moment.
        second: Adam's second moment.
        steps: How many steps Adam's moments have seen, 0-dim.
    """

    parameter: Tensor
    state: dict[str, Any]
    values: tuple[Any, ...]
    weight: Tensor
    dual: Tensor | None
    mask: Tensor | None
    first: Tensor | None
    second: Tensor | None
    steps: Tensor | None

    def holds_for(self, parameter: Tensor) -> bool:
        """Whether it still describes a parameter, whose state anybody may have changed."""
        return (
            parameter is self.parameter
            and self.weight is parameter  # the parts of sharded weights come and go
            and len(self.values) == len(self.state)
            and all(map(is_, self.values, self.state.values()))
        )

    def move(self, update: Tensor, delta: float) -> None:
        """Subtracts an update from the dual, or from the weight that has none."""
        if self.mask is not None:
            update = update * self.mask
        if self.dual is not None:
            self.dual.sub_(update)
        else:
            self.weight.sub_(update, alpha=delta)
