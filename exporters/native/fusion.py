"""Steps put together, so that activations are read and written as seldom as can be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparsify.exporters.native.buffers import ONE, Buffer, Length, Rows, buffers_of, indices_of
from sparsify.exporters.native.steps import (
    Argument,
    Attention,
    Conv,
    Gather,
    Input,
    Operand,
    Parameter,
    Residual,
    Rowwise,
    Step,
    Steps,
    read_buffers,
)

MOST_SCALARS = 32
"""Registers of the engine that hold one value per utterance."""

_ARGUMENTS = 3  # of a step at most; such as are constants need registers, too


@dataclass
class Group:
    """Rowwise steps that go over the same rows together, one row after the other.

    Attributes:
        length: Frames that they run over.
        count: Rows.
        members: In order.
        scalars: What of them has one value per utterance, each in a register of its own.
    """

    length: Length
    count: int
    members: list[Rowwise] = field(default_factory=list)
    scalars: set[bytes] = field(default_factory=set)


Fused: TypeAlias = Input | Gather | Conv | Attention | Group


def fuse(steps: Steps) -> list[Fused]:
    """Steps with what follows convolutions moved into them, and rowwise ones in groups.

    The steps are changed.
    """
    _finish_convolutions(steps)
    return _grouped(_needed(steps))


def stored(fused: list[Fused], output: Rows) -> set[int]:
    """The numbers of the buffers that live longer than within one group."""
    numbers = {int(each) for each in np.unique(buffers_of(output))}
    for step in fused:
        if isinstance(step, Group):
            numbers |= outside(step)
        else:
            numbers |= read_buffers(step)
    return numbers


def outside(group: Group) -> set[int]:
    """The numbers of the buffers that a group reads and did not make itself."""
    made: set[int] = set()
    numbers: set[int] = set()
    for step in group.members:
        numbers |= read_buffers(step) - made
        made.add(step.target.number)
    return numbers


def _needed(steps: Steps) -> list[Step]:
    """Without what nobody reads."""
    wanted = {int(each) for each in np.unique(buffers_of(steps.output))}
    kept = []
    for step in reversed(steps.steps):
        if step.target.number in wanted or isinstance(step, Input):
            wanted |= read_buffers(step)
            kept.append(step)
    return kept[::-1]


@dataclass
class _Known:
    """What is known of buffers.

    Attributes:
        buffers: By their numbers.
        uses: How many steps read each.
        made: The position of the step that writes each.
    """

    buffers: list[Buffer]
    uses: Counter[int]
    made: dict[int, int]


def _finish_convolutions(steps: Steps) -> None:
    """Moves ReLU, affine maps and residuals that follow a convolution into it."""
    uses = Counter(number for step in steps.steps for number in read_buffers(step))
    uses.update(int(each) for each in np.unique(buffers_of(steps.output)))
    made = {step.target.number: position for position, step in enumerate(steps.steps)}
    known = _Known(steps.buffers, uses, made)
    convs: dict[int, Conv] = {}
    left = []
    for step in steps.steps:
        conv = _taker(step, convs, known) if isinstance(step, Rowwise) else None
        if conv is None:
            left.append(step)
            if isinstance(step, Conv):
                convs[step.target.number] = step
            continue
        del convs[conv.target.number]
        made[step.target.number] = made[conv.target.number]
        conv.target = step.target
        convs[step.target.number] = conv
    steps.steps = left


def _taker(step: Rowwise, convs: dict[int, Conv], known: _Known) -> Conv | None:
    """The convolution that has taken a step over, if one could."""
    for place, operand in enumerate(step.arguments):
        if not isinstance(operand, Operand):
            continue
        conv = convs.get(int(buffers_of(operand.rows[:1])[0]))
        if (
            conv is None
            or known.uses[conv.target.number] != 1
            or not _same_rows(step, operand, conv)
        ):
            continue
        others = [each for i, each in enumerate(step.arguments) if i != place]
        if _take(step, conv, others, known):
            return conv
    return None


def _same_rows(step: Rowwise, operand: Operand, conv: Conv) -> bool:
    """Whether a step maps each row of a convolution's output to the same row of its own."""
    target = step.target
    return (
        (target.channels, target.frequencies) == (conv.target.channels, conv.target.frequencies)
        and operand.length == target.length
        and bool((buffers_of(operand.rows) == conv.target.number).all())
        and np.array_equal(indices_of(operand.rows), indices_of(step.rows))
    )


def _take(step: Rowwise, conv: Conv, others: list[Argument], known: _Known) -> bool:
    """Moves a step into a convolution, if it is what comes next in the engine's order."""
    if conv.relu_after:
        return False
    if step.code == "relu":
        return _take_relu(conv)
    if conv.residual is not None:
        return False
    if step.code == "affine" and conv.scale is None:
        return _take_affine(step, conv)
    return step.code == "add" and len(others) == 1 and _take_sum(step, conv, others[0], known)


def _take_sum(step: Rowwise, conv: Conv, other: Argument, known: _Known) -> bool:
    if isinstance(other, Parameter):
        return _take_bias(step, conv, other)
    return isinstance(other, Operand) and _take_residual(step, conv, other, known)


def _take_relu(conv: Conv) -> bool:
    if conv.scale is not None or conv.residual is not None:
        conv.relu_after = True
        return True
    taken, conv.relu_before = not conv.relu_before, True
    return taken


def _take_affine(step: Rowwise, conv: Conv) -> bool:
    scale, shift = _of_channels(step, step.scale), _of_channels(step, step.shift)
    if scale is None or shift is None:
        return False
    conv.scale, conv.shift_after = scale, shift
    return True


def _take_bias(step: Rowwise, conv: Conv, other: Parameter) -> bool:
    bias = _of_channels(step, other.values)
    if bias is None or conv.relu_before or conv.scale is not None:
        return False
    conv.bias = conv.bias + bias
    return True


def _of_channels(step: Rowwise, values: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """Numbers of a step's rows by channel, if they are the same at all frequencies."""
    assert values is not None
    flat = np.empty(len(values), np.float32)
    flat[indices_of(step.rows)] = values
    grid = flat.reshape(step.target.frequencies, step.target.channels)
    return grid[0].copy() if (grid == grid[0]).all() else None


def _take_residual(step: Rowwise, conv: Conv, other: Operand, known: _Known) -> bool:
    numbers = np.unique(buffers_of(other.rows))
    if len(numbers) != 1 or other.length != step.target.length:
        return False
    place = np.empty(len(other.rows), np.int64)
    place[indices_of(step.rows)] = indices_of(other.rows)
    grid = place.reshape(step.target.frequencies, step.target.channels)
    stride = int(grid[1, 0] - grid[0, 0]) if len(grid) > 1 else 0
    regular = grid[0, 0] + stride * np.arange(len(grid))[:, None] + np.arange(grid.shape[1])
    earlier = known.made[int(numbers[0])] < known.made[conv.target.number]
    if not earlier or not np.array_equal(grid, regular):
        return False
    conv.residual = Residual(known.buffers[int(numbers[0])], int(grid[0, 0]), stride)
    return True


def _grouped(steps: list[Step]) -> list[Fused]:
    fused: list[Fused] = []
    group: Group | None = None
    for step in steps:
        if not isinstance(step, Rowwise):
            fused.append(step)
            group = None
            continue
        if group is None or not _joins(step, group):
            group = Group(step.length, len(step.rows))
            fused.append(group)
        if group.length == ONE:
            group.length = step.length
        group.members.append(step)
        group.scalars |= _scalars(step)
    return fused


def _scalars(step: Rowwise) -> set[bytes]:
    """What has one value per utterance of that which a step reads and writes."""
    read = {
        each.rows.tobytes()
        for each in step.arguments
        if isinstance(each, Operand) and each.length == ONE
    }
    return read | {step.rows.tobytes()} if step.target.length == ONE else read


def _joins(step: Rowwise, group: Group) -> bool:
    """Whether a step goes over the rows of a group, and needs nothing that is not yet there."""
    if len(step.rows) != group.count:
        return False
    if ONE not in (step.length, group.length) and step.length != group.length:
        return False
    if len(group.scalars | _scalars(step)) > MOST_SCALARS - _ARGUMENTS:
        return False
    made = {member.target.number: member for member in group.members}
    for operand in step.arguments:
        if not isinstance(operand, Operand):
            continue
        for number in np.unique(buffers_of(operand.rows)):
            member = made.get(int(number))
            if member is not None and not np.array_equal(operand.rows, member.rows):
                return False
    return True
