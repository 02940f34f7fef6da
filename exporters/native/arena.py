"""Where activations lie: rows of a panel, given to others when nobody needs them any more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsify.exporters.native.fusion import Fused, Group, outside, stored
from sparsify.exporters.native.steps import (
    ONE,
    Buffer,
    Conv,
    Rows,
    Steps,
    buffers_of,
    indices_of,
    read_buffers,
)


@dataclass(frozen=True)
class Arena:
    """Rows of a panel.

    Attributes:
        kept: The numbers of the buffers that lie in it; others live in registers only.
        base: The first row of each.
        rows: All rows of a panel.
        scalar_rows: Rows before the first panel, numbered from below zero.
        first: Of each buffer, the row of its first frequency, after the margin.
        halos: The first of the rows that need a halo, and how many, by the number of the buffer.
    """

    kept: set[int]
    base: dict[int, int]
    rows: int
    scalar_rows: int
    first: NDArray[np.int64]
    halos: dict[int, tuple[int, int]]

    def physical(self, rows: Rows) -> NDArray[np.int64]:
        """Where rows lie."""
        return self.first[buffers_of(rows)] + indices_of(rows)

    def first_row(self, buffer: Buffer) -> int:
        """The row of a buffer's first frequency."""
        return int(self.first[buffer.number])

    def targets(self, step: Fused) -> list[Buffer]:
        """What a step writes into it."""
        return _targets(step, self.kept)


def arrange(fused: list[Fused], steps: Steps) -> Arena:
    """Gives every buffer its place; how far halos go is noted in the buffers."""
    kept = stored(fused, steps.output)
    halos = _halos(fused, steps)
    base, rows, scalar_rows = _placed(fused, steps, kept)
    first = [base.get(each.number, 0) + each.margin * each.channels for each in steps.buffers]
    return Arena(kept, base, rows, scalar_rows, np.array(first, np.int64), halos)


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
            first, end = ranges.get(int(number), (buffer.rows, 0))
            if step.step:
                first, end = 0, buffer.rows
            else:
                first = min(first, int(step.index[columns].min()))
                end = max(end, int(step.index[columns].max()) + 1)
            ranges[int(number)] = (first, end)
    return {number: (first, end - first) for number, (first, end) in ranges.items()}


def _placed(fused: list[Fused], steps: Steps, kept: set[int]) -> tuple[dict[int, int], int, int]:
    """The first row of each buffer, the rows of a panel, and those before the first panel.

    What has one value per utterance lies before the first panel, so that the others have no room
    for it.

    The largest buffers choose first. Each takes the lowest rows that no other needs at the same
    time (greedy by size, as in arXiv 2001.03288).
    """
    lives = _lives(fused, steps, kept)
    still = {buffer: life for buffer, life in lives.items() if buffer.length == ONE}
    moving = {buffer: life for buffer, life in lives.items() if buffer.length != ONE}
    below, scalar_rows = _packed(still)
    base, rows = _packed(moving)
    return base | {number: row - scalar_rows for number, row in below.items()}, rows, scalar_rows


def _packed(lives: dict[Buffer, tuple[int, int]]) -> tuple[dict[int, int], int]:
    base: dict[int, int] = {}
    for buffer in sorted(lives, key=lambda each: -each.all_rows):
        begin, end = lives[buffer]
        taken = [
            (base[other.number], base[other.number] + other.all_rows)
            for other, (first, last) in lives.items()
            if other.number in base and first <= end and begin <= last
        ]
        base[buffer.number] = _gap(sorted(taken), buffer.all_rows)
    rows = max((base[each.number] + each.all_rows for each in lives), default=0)
    return base, rows


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


def _gap(taken: list[tuple[int, int]], rows: int) -> int:
    """The first place between others where so many rows fit."""
    free = 0
    for first, end in taken:
        if first - free >= rows:
            return free
        free = max(free, end)
    return free
