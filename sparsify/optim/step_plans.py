"""What a step works on, kept from step to step: gathering it anew costs as much as a small step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import is_
from typing import Any

from torch import Tensor

from sparsify.optim.compiled import Table
from sparsify.optim.sharding import is_dtensor
from sparsify.optim.state import Slot

_CACHED = 1 << 17  # entries whose intermediate results a processor's caches keep


class SlotBatch:
    """Parameters that are computed together: of one type, on one device, with the same state.

    Attributes:
        places: Where they are in the plan.
        parameters: As the optimizer knows them.
        whole_duals: Likewise their duals, or none.
        weights: What this process holds of them; `duals`, `masks`, `first`, `second` and `steps`
            are as many or none, see `Slot`.
    """

    def __init__(self, numbered: Sequence[tuple[int, Slot]]) -> None:
        slots = [slot for _, slot in numbered]
        self.places = [place for place, _ in numbered]
        self.parameters = [slot.parameter for slot in slots]
        self.whole_duals = [slot.state["dual"] for slot in slots if slot.dual is not None]
        self.weights = [slot.weight for slot in slots]
        self.duals = [slot.dual for slot in slots if slot.dual is not None]
        self.masks = [slot.mask for slot in slots if slot.mask is not None]
        self.first = [slot.first for slot in slots if slot.first is not None]
        self.second = [slot.second for slot in slots if slot.second is not None]
        self.steps = [slot.steps for slot in slots if slot.steps is not None]


class StepPlan:
    """The parameters of a group that have a gradient, with their state.

    Args:
        slots: The parameters.
        table: Their addresses, where the C code computes the step.
        settings: What of the group decides which state a parameter has.
    """

    def __init__(self, slots: Sequence[Slot], table: Table | None, settings: Any) -> None:
        self.slots = slots
        self.table = table
        self.batches = _batches(slots)
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


def _batches(slots: Sequence[Slot]) -> list[SlotBatch]:
    """All of one kind together, a few launches on a GPU; on a CPU no more than its caches keep."""
    kinds: dict[Any, list[list[tuple[int, Slot]]]] = {}
    for place, slot in enumerate(slots):
        state = (slot.dual, slot.mask, slot.first, slot.second)
        dtypes = (None if tensor is None else tensor.dtype for tensor in state)
        found = kinds.setdefault((slot.weight.device, slot.weight.dtype, *dtypes), [[]])
        if slot.weight.device.type == "cpu":
            size = sum(other.weight.numel() for _, other in found[-1])
            if size and size + slot.weight.numel() > _CACHED:
                found.append([])
        found[-1].append((place, slot))
    return [SlotBatch(numbered) for each in kinds.values() for numbered in each]


def _objects(parameters: Sequence[Tensor], states: Sequence[dict[str, Any]]) -> list[Any]:
    """What must be the same objects for a plan to hold."""
    dtypes = (parameter.dtype for parameter in parameters)
    return [*parameters, *dtypes, *chain.from_iterable(map(dict.values, states))]
