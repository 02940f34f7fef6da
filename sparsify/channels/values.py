"""Which values in a network are the same whatever the features are.

An abstract run over a tape: an element is known, and has a value, or it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sparsify.channels.operators import (
    AFFINE,
    BATCH_NORMS,
    CONVOLUTION,
    MATRIX,
    PRODUCTS,
    REDUCTIONS,
    SOFTMAX,
    VIEWS,
    axes_of,
    is_pointwise,
)
from sparsify.channels.tape import Call, Tape

_aten = torch.ops.aten


@dataclass(frozen=True)
class Abstract:
    """A tensor as far as it is known.

    Attributes:
        value: Values; 0 where they are not known.
        unknown: 1 where a value depends on the features, else 0; of the same shape, `None` where
            all are known.
    """

    value: Tensor
    unknown: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """`unknown`, in any case as a tensor."""
        return torch.zeros(self.value.shape) if self.unknown is None else self.unknown

    @property
    def support(self) -> Tensor:
        """1 where it is not known to be zero."""
        support = (self.value != 0).float()
        return support if self.unknown is None else support.maximum(self.unknown)


@torch.no_grad()
def evaluate(tape: Tape, parameters: Mapping[str, Tensor]) -> list[Abstract]:
    """The tensors of a tape.

    Args:
        tape: Of the network.
        parameters: Parameters and buffers to compute with, by name, on the CPU.
    """
    found: dict[int, Abstract] = {
        number: Abstract(parameters[name].detach()) for name, number in tape.parameters.items()
    }
    found |= {number: Abstract(tensor) for number, tensor in tape.constants.items()}
    shape = tape.shapes[tape.feats]
    found[tape.feats] = Abstract(torch.zeros(shape), torch.ones(shape))
    for call in tape.calls:
        args, kwargs = call.with_tensors(lambda number: found[number].value)
        result = call.op(*args, **kwargs)
        values = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        if all(found[number].unknown is None for number in call.inputs):
            found |= {n: Abstract(value) for n, value in zip(call.outputs, values, strict=True)}
            continue
        unknowns = _unknowns(call, args, kwargs, values, found)
        for number, value, unknown in zip(call.outputs, values, unknowns, strict=True):
            known = torch.where(unknown > 0, torch.zeros_like(value), value)
            found[number] = Abstract(known, unknown)
    return [found[number] for number in range(len(tape.shapes))]


def _unknowns(
    call: Call, args: Any, kwargs: Any, values: list[Tensor], found: Mapping[int, Abstract]
) -> list[Tensor]:
    """Where the results of an operator are not known."""
    everywhere = [torch.ones(value.shape) for value in values]
    op, inputs = call.op, [found[number] for number in call.inputs]
    if op in VIEWS:
        if op is _aten.index_select.default and inputs[1].unknown is not None:
            return everywhere
        masks, options = call.with_tensors(lambda number: _mask_or_index(found[number]))
        if op is _aten.constant_pad_nd.default:
            masks = (*masks[:2], 0.0)
        return [each for each in tree_leaves(op(*masks, **options)) if isinstance(each, Tensor)]
    if op in BATCH_NORMS:
        x, weight = inputs[0], args[1]
        scale = (weight != 0).float() if weight is not None else torch.ones(x.value.shape[1])
        affine = x.mask * scale.view(1, -1, *[1] * (x.value.ndim - 2))
        return [affine, *everywhere[1:]]
    if op is CONVOLUTION and inputs[1].unknown is None:
        options = (None, *args[3:])
        return [(op(inputs[0].mask, inputs[1].support, *options) > 0.5).float()]
    if op in (MATRIX, AFFINE):
        first, second = inputs[-2:]
        made = first.mask @ second.support + first.support @ second.mask
        added = inputs[0].mask.expand(made.shape) if op is AFFINE else torch.zeros(made.shape)
        return [((made + added) > 0.5).float()]
    if op is SOFTMAX:
        return [inputs[0].mask.amax(args[1], keepdim=True).expand(values[0].shape).contiguous()]
    if op in REDUCTIONS:
        axes = axes_of(args, kwargs, inputs[0].value.ndim)
        return [inputs[0].mask.amax(axes, keepdim=True).reshape(values[0].shape)]
    if is_pointwise(op):
        unknown = torch.zeros(values[0].shape)
        for each in inputs:
            unknown = unknown.maximum(each.mask)
        if op in PRODUCTS:
            for each in inputs:
                unknown = unknown * each.support
        return [unknown]
    return everywhere


def _mask_or_index(each: Abstract) -> Tensor:
    """What takes the place of a tensor where elements are only put elsewhere."""
    return each.value if each.value.dtype == torch.int64 else each.mask
