"""What a step works on, kept from step to step: gathering it anew costs as much as a small step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
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
        settings: What of the group decides which state a parameter has.
    """

    def __init__(self, slots: Sequence[Slot], table: Table | None, settings: Any) -> None:
        self.slots = slots
        self.table = table
        self.sharded = any(is_dtensor(slot.parameter) for slot in slots)
        self._settings = settings
        if not self.sharded:  # the parts of sharded tensors come and go
            parameters = [slot.parameter for slot in slots]
            self._objects = _objects(parameters, [slot.state for slot in slots])
            self._tensors = [each for each in self._objects if isinstance(each, Tensor)]
            self._addresses = [tensor.data_ptr() for tensor in self._tensors]

    def holds_for(self, parameters: Sequence[Tensor], states: Sequence[Any], settings: Any) -> bool:
        """Whether it still describes them: anybody may have changed state, memory or type."""
        if self.sharded or len(parameters) != len(self.slots) or settings != self._settings:
            return False
        if not all(states):  # somebody has cleared it
            return False
        objects = _objects(parameters, states)
        return (
            len(objects) == len(self._objects)
            and all(map(is_, objects, self._objects))
            and [tensor.data_ptr() for tensor in self._tensors] == self._addresses
        )


def _objects(parameters: Sequence[Tensor], states: Sequence[dict[str, Any]]) -> list[Any]:
    """What must be the same objects for a plan to hold."""
    dtypes = (parameter.dtype for parameter in parameters)
    return [*parameters, *dtypes, *chain.from_iterable(map(dict.values, states))]
