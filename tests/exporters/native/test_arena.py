"""No two activations lie in the same place at the same time, with all that surrounds them."""

import numpy as np
import sympy
from hypothesis import given
from hypothesis import strategies as st

from sparsify.exporters.native.arena import arrange
from sparsify.exporters.native.buffers import ONE, row_ids
from sparsify.exporters.native.steps import Conv, Input, Steps

T = sympy.Symbol("T", integer=True)
LINE, GROUP, PANEL = 16, 8, 64


@st.composite
def _networks(draw):
    """Convolutions that read any of what was made before them, or pairs of it."""
    steps = Steps()
    steps.steps.append(Input(steps.buffer(draw(st.integers(1, 4)), draw(st.integers(1, 3)), T)))
    for number in range(1, draw(st.integers(2, 6))):
        length = draw(st.sampled_from([T, T, T, ONE]))
        known = [each.number for each in steps.buffers if each.length == length]
        if not known:
            continue
        read = np.array(draw(st.lists(st.sampled_from(known), min_size=1, max_size=3)), np.int64)
        far = 0 if length == ONE else draw(st.integers(0, 5))
        shift = np.array([draw(st.integers(-far, far)) for _ in read], np.int64)
        target = steps.buffer(draw(st.integers(1, 4)), draw(st.integers(1, 3)), length)
        for each in read:
            steps.buffers[each].margin = max(steps.buffers[each].margin, draw(st.integers(0, 1)))
        step = draw(st.integers(0, 1)) * steps.buffers[read[0]].channels
        weight = np.ones((target.channels, len(read)), np.float32)
        zeros = np.zeros(len(read), np.int64)
        conv = Conv(weight, weight[:, 0], target, read, zeros, shift, step, str(number))
        steps.steps.append(conv)
    last = steps.buffers[-1]
    steps.output = row_ids(last, np.arange(last.rows))
    return steps


def _extent(arena, buffer):
    """The floats of a buffer, from the halo of its first row to that of its last."""
    first, stride = int(arena.first[buffer.number]), int(arena.strides[buffer.number])
    margin = buffer.margin * buffer.channels
    floats = LINE if buffer.length == ONE else PANEL
    begin = LINE * (first - margin * stride) - GROUP * buffer.left
    end = LINE * (first + (buffer.rows + margin - 1) * stride) + floats + GROUP * buffer.right
    assert stride * LINE >= floats + GROUP * (buffer.left + buffer.right)
    return begin, end


@given(_networks())
def test_nothing_overlaps_while_it_is_needed(steps):
    arena = arrange(list(steps.steps), steps)
    lives = {}
    for position, step in enumerate(steps.steps):
        lives[step.target.number] = [position, position]
        for number in step.buffers if isinstance(step, Conv) else ():
            lives[int(number)][1] = position
    lives[steps.buffers[-1].number][1] = len(steps.steps)
    placed = [each for each in steps.buffers if each.number in arena.kept]
    for i, one in enumerate(placed):
        begin, end = _extent(arena, one)
        if one.length == ONE:
            assert -LINE * arena.scalar_lines <= begin < end <= 0
        else:
            assert 0 <= begin < end <= LINE * arena.lines
        for other in placed[:i]:
            together = (
                lives[one.number][0] <= lives[other.number][1]
                and lives[other.number][0] <= lives[one.number][1]
            )
            first, last = _extent(arena, other)
            assert not together or end <= first or last <= begin


@given(_networks())
def test_a_convolution_walks_through_all_it_reads_in_the_same_steps(steps):
    arena = arrange(list(steps.steps), steps)
    for step in steps.steps:
        if isinstance(step, Conv) and step.step:
            assert len({int(arena.strides[number]) for number in step.buffers}) == 1
