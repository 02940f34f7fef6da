"""Which values in a network are the same whatever the features are.

An abstract run over a tape: an element is known, and has a value, or it is not.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sparsify.channels.operators import (
    AFFINE,
    BATCH_NORMS,
    CONVOLUTION,
    INDEXED,
    MATRIX,
    PRODUCTS,
    REDUCTIONS,
    SOFTMAX,
    VIEWS,
    Opaque,
    axes_of,
    is_pointwise,
)
from sparsify.channels.tape import Call, Tape, tensors_in

_ANY = 0.5  # of counts that a convolution adds up


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
    found[tape.feats] = _nothing(tape.shapes[tape.feats], torch.float32)
    for call in tape.calls:
        found |= zip(call.outputs, _made(tape, call, found), strict=True)
    return [found[number] for number in range(len(tape.shapes))]


@torch.no_grad()
def differences(
    tape: Tape, before: Sequence[Abstract], parameters: Mapping[str, Tensor]
) -> dict[int, Abstract]:
    """The tensors of a tape, by number, that are others when some parameters are.

    Args:
        tape: Of the network.
        before: What `evaluate` has found.
        parameters: Other values for some parameters.
    """
    new = {tape.parameters[name]: Abstract(value) for name, value in parameters.items()}
    found = ChainMap(new, dict(enumerate(before)))
    for call in tape.calls:
        if not new.keys().isdisjoint(call.inputs):
            made = zip(call.outputs, _made(tape, call, found), strict=True)
            new |= {number: each for number, each in made if not _same(each, before[number])}
    return new


def _same(one: Abstract, other: Abstract) -> bool:
    return torch.equal(one.value, other.value) and torch.equal(one.mask, other.mask)


def _made(tape: Tape, call: Call, found: Mapping[int, Abstract]) -> list[Abstract]:
    """What an operator makes of what is known of its arguments."""
    if isinstance(call.op, Opaque):
        shapes = [tape.shapes[number] for number in call.outputs]
        return [_nothing(*each) for each in zip(shapes, call.op.dtypes, strict=True)]
    args, kwargs = call.with_tensors(partial(_value, found))
    values = tensors_in(call.op(*args, **kwargs))
    if all(found[number].unknown is None for number in call.inputs):
        return [Abstract(value) for value in values]
    unknowns = _unknowns(_Step(call, args, kwargs, values, found))
    pairs = zip(values, unknowns, strict=True)
    return [Abstract(torch.where(u > 0, torch.zeros_like(v), v), u) for v, u in pairs]


def _nothing(shape: tuple[int, ...], dtype: torch.dtype) -> Abstract:
    """A tensor of which nothing is known."""
    return Abstract(torch.zeros(shape, dtype=dtype), torch.ones(shape))


def _value(found: Mapping[int, Abstract], number: int) -> Tensor:
    return found[number].value


def _mask_or_index(found: Mapping[int, Abstract], number: int) -> Tensor:
    """What takes the place of a tensor where elements are only put elsewhere."""
    each = found[number]
    return each.value if each.value.dtype == torch.int64 else each.mask


@dataclass(frozen=True)
class _Step:
    """A call with what is known of its arguments, and what it makes of their values."""

    call: Call
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    values: list[Tensor]
    found: Mapping[int, Abstract]

    @property
    def inputs(self) -> list[Abstract]:
        return [self.found[number] for number in self.call.inputs]


def _unknowns(step: _Step) -> list[Tensor]:
    """Where the results of an operator are not known."""
    op = step.call.op
    everywhere = [torch.ones(value.shape) for value in step.values]
    if op in INDEXED and step.inputs[1].unknown is not None:
        return everywhere
    if op in VIEWS:
        return step.call.moved(partial(_mask_or_index, step.found))
    if op in BATCH_NORMS:
        return [_normed(step), *everywhere[1:]]
    first = _FIRST.get(op, _pointwise if is_pointwise(op) else None)
    if op in REDUCTIONS:
        first = _reduced
    return everywhere if first is None else [first(step)]


def _normed(step: _Step) -> Tensor:
    x, weight = step.inputs[0], step.args[1]
    if weight is None:
        return x.mask
    return x.mask * (weight != 0).float().view(1, -1, *[1] * (x.value.ndim - 2))


def _convolved(step: _Step) -> Tensor:
    x, weight = step.inputs[:2]
    if weight.unknown is not None:
        return torch.ones(step.values[0].shape)
    made: Tensor = step.call.op(x.mask, weight.support, None, *step.args[3:])
    return (made > _ANY).float()


def _multiplied(step: _Step) -> Tensor:
    first, second = step.inputs[-2:]
    made = first.mask @ second.support + first.support @ second.mask
    if step.call.op is AFFINE:
        made = made + step.inputs[0].mask
    return (made > _ANY).float()


def _softened(step: _Step) -> Tensor:
    mask = step.inputs[0].mask
    return mask.amax(step.args[1], keepdim=True).expand(mask.shape).contiguous()


def _reduced(step: _Step) -> Tensor:
    mask = step.inputs[0].mask
    axes = axes_of(step.args, step.kwargs, mask.ndim)
    return mask.amax(axes, keepdim=True).reshape(step.values[0].shape)


def _pointwise(step: _Step) -> Tensor:
    unknown = torch.zeros(step.values[0].shape)
    for each in step.inputs:
        unknown = unknown.maximum(each.mask)
    if step.call.op in PRODUCTS:  # nothing changes a zero
        for each in step.inputs:
            unknown = unknown * each.support
    return unknown


_FIRST: Mapping[Any, Callable[[_Step], Tensor]] = {
    CONVOLUTION: _convolved,
    MATRIX: _multiplied,
    AFFINE: _multiplied,
    SOFTMAX: _softened,
}
