"""What a step works on, kept from step to step: gathering it anew costs as much as a small step."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any

from torch import Tensor

from sparsify.optim.fused import Table
from sparsify.optim.sharding import is_dtensor
from sparsify.optim.slots import Slot


class Plan:
    """The parameters of a group that have a gradient, with their state.

    Args:
        slots: The parameters.
        table: Their addresses, where the C code computes the step.

    Attributes:
        sharded: Whether processes hold parts of them, which come and go.
    """

    def __init__(self, slots: Sequence[Slot], table: Table | None) -> None:
        self.slots = slots
        self.table = table
        self.sharded = any(is_dtensor(slot.parameter) for slot in slots)
        self._tensors = self._found([slot.parameter for slot in slots])

    def holds_for(self, parameters: Sequence[Tensor]) -> bool:
        """Whether it still describes them: anybody may have changed their state."""
        if self.sharded or len(parameters) != len(self.slots):
            return False
        found = self._found(parameters)
        return len(found) == len(self._tensors) and all(map(is_, found, self._tensors))

    def _found(self, parameters: Sequence[Tensor]) -> list[Any]:
        """Parameters, and the state that there is."""
        return [*parameters, *(value for slot in self.slots for value in slot.state.values())]
