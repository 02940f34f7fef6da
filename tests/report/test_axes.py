import math

from hypothesis import given
from hypothesis import strategies as st

from sparsify.report.axes import linear_axis, log_axis, sparsity_axis, step_axis

finite = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
positive = st.floats(1e-6, 1e6)
shares = st.floats(0, 0.9999)


def inside(axis, values):
    assert axis.low < axis.high
    positions = [axis.share(value) for value in sorted(values)]
    assert positions == sorted(positions)
    assert all(0 <= position <= 1 for position in positions)
    assert all(-1e-9 <= axis.share(value) <= 1 + 1e-9 for value, _ in axis.ticks)


@given(st.lists(finite, min_size=1))
def test_linear_axes_hold_their_values_between_ticks(values):
    axis = linear_axis(values)
    inside(axis, values)
    assert 2 <= len(axis.ticks) <= 8
    assert axis.ticks[0][0] <= min(values) + 1e-6
    assert axis.ticks[-1][0] >= max(values) - 1e-6 * abs(max(values))
    assert len({text for _, text in axis.ticks}) == len(axis.ticks)


@given(st.lists(positive, min_size=1))
def test_log_axes_hold_their_values(values):
    axis = log_axis(values)
    inside(axis, values)
    assert math.isclose(axis.transform(1000) - axis.transform(100), axis.transform(10))


@given(st.lists(shares, min_size=1))
def test_equal_distances_are_equal_factors_in_the_weights_left(values):
    axis = sparsity_axis(values)
    inside(axis, values)
    assert math.isclose(
        axis.transform(0.99) - axis.transform(0.9), axis.transform(0.9) - axis.transform(0)
    )


def test_ticks_are_what_a_person_would_choose():
    assert [text for _, text in linear_axis([6.2, 17.1]).ticks] == [
        "6", "8", "10", "12", "14", "16", "18",
    ]  # fmt: skip
    assert [text for _, text in linear_axis([0.02, 0.1]).ticks] == [
        "0.02", "0.04", "0.06", "0.08", "0.10",
    ]  # fmt: skip
    assert [text for _, text in log_axis([1e-5, 0.5]).ticks] == [
        "10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1",
    ]  # fmt: skip
    assert [text for _, text in step_axis(5000).ticks] == ["0", "1k", "2k", "3k", "4k", "5k"]
    assert [text for _, text in sparsity_axis([], [0.99, 0.75]).ticks] == ["75", "99"]
    assert [text for _, text in sparsity_axis([0.892, 0.9]).ticks] == ["90", "89.2", "90"]
