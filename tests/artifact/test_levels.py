import numpy as np
import pytest

from sparsify.artifact.levels import GRIDS


@pytest.fixture
def weight():
    scales = np.logspace(-6, 3, 6)[:, None, None]
    weight = (np.random.default_rng(0).normal(size=(6, 50, 3)) ** 3 * scales).astype(np.float32)
    weight[:, ::2] = 0
    weight[3] = 0
    weight[4, 3:] = 0
    return weight


def short(scale, digits):
    exponent = np.floor(np.log2(scale)) + 1 - digits
    return np.round(scale / 2**exponent) * 2**exponent


def nearest(values, scale, most):
    levels = np.arange(-most, most + 1, 2) * scale
    return levels[np.abs(levels[:, None] - values).argmin(0)]


@pytest.mark.parametrize("bits", [4, 8])
def test_neighbours_share_the_scale_of_the_smallest_error(weight, bits):
    """Found by trying, group by group, in double precision."""
    grid = GRIDS[bits]
    found = grid.rounded(weight).astype(np.float64).reshape(6, -1)
    for row, rounded in zip(weight.astype(np.float64).reshape(6, -1), found, strict=True):
        values, others = row[row != 0], rounded[row != 0]
        size = grid.neighbours or max(len(values), 1)
        for start in range(0, len(values), size):
            group = values[start : start + size]
            largest = np.abs(group).max() / grid.most
            scales = [short(largest * share, grid.digits) for share in grid.shares]
            errors = [((nearest(group, s, grid.most) - group) ** 2).sum() for s in scales]
            error = ((others[start : start + size] - group) ** 2).sum()
            assert error == pytest.approx(min(errors), rel=1e-4)


@pytest.mark.parametrize("bits", [4, 8])
def test_no_zero_is_lost_and_none_is_added(weight, bits):
    found = GRIDS[bits].rounded(weight)
    np.testing.assert_array_equal(np.sign(found), np.sign(weight))
    assert not np.signbit(found[weight == 0]).any()


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_made_of_levels_give_them_again(weight, bits):
    grid = GRIDS[bits]
    rounded = grid.rounded(weight)
    assert grid.split(weight) is None
    scales, levels = grid.split(rounded)
    groups = grid.groups(rounded.reshape(6, -1) != 0)
    assert len(scales) == groups.count
    assert set(np.abs(levels).tolist()) <= set(range(1, grid.most + 1, 2))
    np.testing.assert_array_equal(levels * scales[groups.of_nonzeros], rounded[rounded != 0])
    np.testing.assert_array_equal(grid.rounded(rounded), rounded)
    assert (groups.largest(levels) == grid.most).all()


@pytest.mark.filterwarnings("error")
def test_weights_whose_squares_overflow_are_rounded_too():
    weight = np.float32([[3e30, -1e30, 0.0], [1e-30, 0.0, 2e-38], [3.4e38, 0.0, 1.0]])
    for grid in GRIDS.values():
        found = grid.rounded(weight)
        np.testing.assert_array_equal(np.sign(found), np.sign(weight))
        np.testing.assert_allclose(found[0], weight[0], rtol=0.3)


def test_how_many_share_a_scale():
    mask = np.zeros((4, 100), dtype=np.bool_)
    mask[0, :33], mask[2, 5], mask[3, :64] = True, True, True
    groups = GRIDS[4].groups(mask)
    assert groups.count == 2 + 0 + 1 + 2
    assert groups.of_nonzeros.tolist() == [0] * 32 + [1] + [2] + [3] * 32 + [4] * 32
    assert GRIDS[8].groups(mask).of_nonzeros.tolist() == [0] * 33 + [1] + [2] * 64
