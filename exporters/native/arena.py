"""Where activations lie: lines of a panel, given to others when nobody needs them any more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsify.exporters.native.buffers import ONE, Buffer, Rows, buffers_of, indices_of
from sparsify.exporters.native.fusion import Fused, Group, outside, stored
from sparsify.exporters.native.steps import Conv, Steps, read_buffers


@dataclass(frozen=True)
class Arena:
    """Lines of a panel; a line has 16 floats.

    Attributes:
        kept: The numbers of the buffers that lie in it; others live in registers only.
        lines: All lines of a panel.
        scalar_lines: Lines before the first panel, numbered from below zero.
        first: Of each buffer, the line of its first frequency, after the margin.
        strides: Of each buffer, the lines from row to row.
        halos: The first of the rows that need a halo, and how many, by the number of the buffer.
    """

    kept: set[int]
    lines: int
    scalar_lines: int
    first: NDArray[np.int64]
    strides: NDArray[np.int64]
    halos: dict[int, tuple[int, int]]

    def physical(self, rows: Rows) -> NDArray[np.int64]:
        """The lines at which rows begin."""
        return self.lines_of(buffers_of(rows), indices_of(rows))

    def lines_of(self, buffers: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The lines at which rows of buffers begin."""
        return self.first[buffers] + index * self.strides[buffers]

    def first_line(self, buffer: Buffer) -> int:
        """The line of a buffer's first frequency."""
        return int(self.first[buffer.number])

    def targets(self, step: Fused) -> list[Buffer]:
        """What a step writes into it."""
        return _targets(step, self.kept)


def arrange(fused: list[Fused], steps: Steps) -> Arena:
    """Gives every buffer its place; how far halos go is noted in the buffers."""
    kept = stored(fused, steps.output)
    halos = _halos(fused, steps)
    base, lines, scalar_lines = _placed(fused, steps, kept)
    strides = np.array([each.stride for each in steps.buffers], np.int64)
    margins = np.array([each.before for each in steps.buffers], np.int64)
    first = np.array([base.get(each.number, 0) for each in steps.buffers], np.int64) + margins
    return Arena(kept, lines, scalar_lines, first, strides, halos)


def _targets(step: Fused, kept: set[int]) -> list[Buffer]:
    """What a step writes that others read."""
    targets = [each.target for each in step.members] if isinstance(step, Group) else [step.target]
    return [each for each in targets if each.number in kept]


def _halos(fused: list[Fused], steps: Steps) -> dict[int, tuple[int, int]]:
    """The rows of each buffer that need a halo."""
    ranges: dict[int, tuple[int, int]] = {}
    for step in fused:
        if not isinstance(step, Conv):
            continue
        for number in np.unique(step.buffers[step.shift != 0]):
            buffer = steps.buffers[number]
            columns = (step.buffers == number) & (step.shift != 0)
            buffer.left = max(buffer.left, -int(step.shift[columns].min()))
            buffer.right = max(buffer.right, int(step.shift[columns].max()))
            buffer.halo = buffer.left + buffer.right
            first, end = ranges.get(int(number), (buffer.rows, 0))
            if step.step:
                first, end = 0, buffer.rows
            else:
                first = min(first, int(step.index[columns].min()))
                end = max(end, int(step.index[columns].max()) + 1)
            ranges[int(number)] = (first, end)
    _equal_strides(fused, steps)
    return {number: (first, end - first) for number, (first, end) in ranges.items()}


def _equal_strides(fused: list[Fused], steps: Steps) -> None:
    """Gives buffers room for the same halo that a convolution walks through in the same steps."""
    together = [
        [steps.buffers[number] for number in np.unique(step.buffers)]
        for step in fused
        if isinstance(step, Conv) and step.step
    ]
    changed = True
    while changed:
        changed = False
        for buffers in together:
            most = max(each.halo for each in buffers)
            changed |= any(each.halo != most for each in buffers)
            for each in buffers:
                each.halo = most


def _placed(fused: list[Fused], steps: Steps, kept: set[int]) -> tuple[dict[int, int], int, int]:
    """The first line of each buffer, the lines of a panel, and those before the first panel.

    What has one value per utterance lies before the first panel, so that the others have no room
    for it.

    The largest buffers choose first. Each takes the lowest lines that no other needs at the same
    time (greedy by size, as in arXiv 2001.03288).
    """
    lives = _lives(fused, steps, kept)
    still = {buffer: life for buffer, life in lives.items() if buffer.length == ONE}
    moving = {buffer: life for buffer, life in lives.items() if buffer.length != ONE}
    below, scalar_lines = _packed(still)
    base, lines = _packed(moving)
    below = {number: line - scalar_lines for number, line in below.items()}
    return base | below, lines, scalar_lines


def _packed(lives: dict[Buffer, tuple[int, int]]) -> tuple[dict[int, int], int]:
    base: dict[int, int] = {}
    for buffer in sorted(lives, key=lambda each: -each.lines):
        begin, end = lives[buffer]
        taken = [
            (base[other.number], base[other.number] + other.lines)
            for other, (first, last) in lives.items()
            if other.number in base and first <= end and begin <= last
        ]
        base[buffer.number] = _gap(sorted(taken), buffer.lines)
    lines = max((base[each.number] + each.lines for each in lives), default=0)
    return base, lines


def _lives(fused: list[Fused], steps: Steps, kept: set[int]) -> dict[Buffer, tuple[int, int]]:
    """The steps that write and that last read each buffer."""
    last = {number: position for position, step in enumerate(fused) for number in _read(step)}
    last.update({int(number): len(fused) for number in np.unique(buffers_of(steps.output))})
    return {
        buffer: (position, last.get(buffer.number, position))
        for position, step in enumerate(fused)
        for buffer in _targets(step, kept)
    }


def _read(step: Fused) -> set[int]:
    return outside(step) if isinstance(step, Group) else read_buffers(step)


def _gap(taken: list[tuple[int, int]], lines: int) -> int:
    """The first place between others where so many lines fit."""
    free = 0
    for first, end in taken:
        if first - free >= lines:
            return free
        free = max(free, end)
    return free
