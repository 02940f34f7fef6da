import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from sparsify.exporters.native.matrix import BLOCK, pack

FARTHEST = 65535
STRIDE = 5


def _unpacked(chunks, outputs, lines, shift):
    """The matrix that the kernels multiply with, from what they read."""
    columns = {int(group): column for column, group in enumerate(2 * lines + shift)}
    matrix = np.zeros((outputs, len(lines)), np.float32)
    for chunk in chunks:
        row = value = 0
        for nonzeros, count in chunk.runs:
            for _ in range(count):
                members = chunk.rows[row : row + chunk.block]
                row += chunk.block
                for _ in range(nonzeros):
                    numbers = chunk.values[value * chunk.block : (value + 1) * chunk.block]
                    # Backwards, as the kernel stores: what comes last counts.
                    for member, number in reversed(list(zip(members, numbers, strict=True))):
                        if number:
                            column = columns[chunk.origin + int(chunk.offsets[value])]
                            assert matrix[member, column] == 0
                            matrix[member, column] = number
                    value += 1
        assert row == len(chunk.rows)
        assert value * chunk.block == len(chunk.values)
        assert value == len(chunk.offsets)
    return matrix


@st.composite
def _matrices(draw):
    outputs, columns = draw(st.integers(1, 23)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.normal(size=(outputs, columns)).astype(np.float32)
    weight[rng.random(weight.shape) > draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))] = 0
    # Near each other, or farther apart than 16 bits reach.
    rows = rng.choice(draw(st.sampled_from([40, 900, 100_000])), columns, replace=False)
    return weight, rows * STRIDE, rng.integers(-4, 5, columns)


@given(_matrices(), st.sampled_from([1, BLOCK]))
@example((np.zeros((5, 3), np.float32), np.array([5, 0, 10]), np.zeros(3, int)), BLOCK)
def test_unpacking_gives_the_matrix_back(matrix, block):
    weight, lines, shift = matrix
    chunks = pack(weight, lines, shift, block)
    np.testing.assert_array_equal(_unpacked(chunks, len(weight), lines, shift), weight)
    # The first chunk begins each row with its bias, the last one finishes it.
    everything = set(range(len(weight)))
    assert set(chunks[0].rows.tolist()) == set(chunks[-1].rows.tolist()) == everything
    for chunk in chunks:
        assert chunk.block == block
        assert chunk.offsets.max(initial=0) <= FARTHEST
        counts = chunk.runs[:, 0].tolist()
        assert counts == sorted(set(counts), reverse=True)
        assert (chunk.runs[:, 1] > 0).all()
        assert chunk.runs[:, 1].sum() * block == len(chunk.rows)
        if block == 1:
            assert (chunk.values != 0).all()  # nothing is filled up


def test_rows_with_few_nonzeros_take_more_columns_at_a_time():
    """A pass over a row costs a load and a store of its output, however few nonzeros it has."""
    weight = np.zeros((8, 1600), np.float32)
    weight[:, ::40] = 1
    lines, shift = np.arange(1600) * STRIDE, np.zeros(1600, int)
    dense = np.ones_like(weight)
    assert len(pack(weight, lines, shift, 1)) < len(pack(dense, lines, shift, 1))
    assert len(pack(dense, lines, shift, BLOCK)) >= 1600 // 144


def test_a_block_that_is_not_full_repeats_its_first_row():
    (chunk,) = pack(np.ones((6, 2), np.float32), np.array([0, STRIDE]), np.zeros(2, int), BLOCK)
    assert chunk.rows.tolist() == [0, 1, 2, 3, 4, 5, 4, 4]
    assert chunk.values.reshape(2, 2, BLOCK)[1].tolist() == [[1, 1, 0, 0]] * 2
