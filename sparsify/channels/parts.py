"""Which elements of parameters belong to which channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsify.channels.atoms import ANY, Ids, coordinates, follows, joined
from sparsify.channels.operators import PADS
from sparsify.channels.structure import Structure
from sparsify.channels.tape import Call, Tape


@dataclass(frozen=True)
class Part:
    """A view of a parameter: which of its elements."""

    name: str
    places: Tensor


class Parts:
    """The views of parameters on a tape, and what is known of their channels.

    Args:
        tape: Of a network.
        structure: What is found is added to it.
    """

    def __init__(self, tape: Tape, structure: Structure) -> None:
        self._structure = structure
        self._shapes = {name: tape.shapes[number] for name, number in tape.parameters.items()}
        self._parts = {
            number: Part(name, torch.arange(math.prod(shape)).view(shape))
            for (name, number), shape in zip(
                tape.parameters.items(), self._shapes.values(), strict=True
            )
        }

    def get(self, number: int | None) -> Part | None:
        """What a tensor of the tape is a view of, if it is one."""
        return None if number is None else self._parts.get(number)

    def follow(self, call: Call) -> None:
        """A view of a single parameter still is some of its elements."""
        if len(call.inputs) != 1 or call.inputs[0] not in self._parts or call.op in PADS:
            return
        part = self._parts[call.inputs[0]]
        for number, view in zip(call.outputs, call.moved(lambda _: part.places), strict=True):
            self._parts[number] = Part(part.name, view)

    def attach(self, part: Part | None, ids: Ids) -> None:
        """The elements of a parameter of one axis belong to channels."""
        if part is None:
            return
        shape = self._shapes[part.name]
        index = coordinates(part.places.reshape(-1), shape)
        axis = max(range(len(shape)), key=lambda a: shape[a])
        if any(length > 1 for a, length in enumerate(shape) if a != axis):
            self._structure.atoms.fix(ids)
        elif len(ids) == len(index[axis]):
            self._attach_axis(part.name, axis, index[axis], ids)

    def attach_rows(self, part: Part, ids: Ids) -> None:
        """The rows of a parameter belong to channels."""
        firsts = part.places.reshape(len(ids), -1)[:, 0]
        rows = coordinates(firsts, self._shapes[part.name])[0]
        self._attach_axis(part.name, 0, rows, ids)

    def attach_matrix(self, part: Part, makes: Ids, reads: Ids, *, transposed: bool) -> None:
        """The rows of a parameter make channels, and its columns read others."""
        places = part.places.transpose(0, 1) if transposed else part.places
        shape = self._shapes[part.name]
        index = coordinates(places, shape)
        free = list(range(len(shape)))
        for side, ids in ((0, makes), (1, reads)):
            found = next((a for a in free if follows(index[a], side)), None)
            if found is None:
                self._structure.atoms.fix(ids)
                continue
            free.remove(found)
            along = np.moveaxis(index[found], side, 0).reshape(len(ids), -1)[:, 0]
            self._attach_axis(part.name, found, along, ids)

    def _attach_axis(self, name: str, axis: int, places: Ids, ids: Ids) -> None:
        count = self._shapes[name][axis]
        known = self._structure.axes.setdefault((name, axis), np.full(count, ANY))
        self._structure.atoms.tie(known[places], ids)
        known[places] = joined(known[places], ids)
