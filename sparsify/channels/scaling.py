"""Which weights only scale channels that others make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from sparsify.channels.atoms import Ids
from sparsify.channels.operators import PRODUCTS
from sparsify.channels.structure import Structure
from sparsify.channels.tape import Tape
from sparsify.channels.values import Abstract, differences, evaluate


def gates_of(
    tape: Tape, model: nn.Module, structure: Structure, rows: Mapping[str, Ids]
) -> set[str]:
    """The weights whose rows only scale channels that others make, as squeeze-excitation does.

    With such a row at zero, and all biases and norms of its channel, what it leads to is a factor
    that is known, and not zero.

    Args:
        tape: Of the network.
        model: The network.
        structure: Its channels.
        rows: By weight the channels of its rows.
    """
    state = {**model.state_dict(), **dict(model.named_buffers())}
    roots, owners = structure.atoms.roots(), Counter[int]()
    for own in rows.values():
        owners.update(np.unique(own[own >= 0]).tolist())
    factors = {n for call in tape.calls if call.op in PRODUCTS for n in call.inputs}
    before = evaluate(tape, state)
    found = set()
    for name, made in rows.items():
        channel = next((c for c in made.tolist() if owners[c] > 1), None)
        if channel is None:
            continue
        changed: dict[str, Tensor] = {}
        for (other, axis), atoms in structure.axes.items():
            affine = other.endswith((".weight", ".bias")) and state[other].dim() == 1
            own = roots[atoms] == channel
            if axis == 0 and (other == name or affine) and own.any():
                changed[other] = state[other].clone()
                changed[other][torch.from_numpy(own)] = 0
        after = differences(tape, before, changed)
        if any(_became_constant(before[n], after[n]) for n in after.keys() & factors):
            found.add(name)
    return found


def _became_constant(before: Abstract, after: Abstract) -> bool:
    """Whether elements are known now, and not zero, that were not known before."""
    return bool(((before.mask > after.mask) & (after.value != 0)).any())
