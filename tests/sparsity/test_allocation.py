"""Layer-wise counts against an optimiser, and their laws."""

from math import prod

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from sparsify.sparsity.allocation import layer_counts

SHAPES = [(64, 80, 5), (64, 64, 1), (8, 8, 3), (16, 64), (64, 16), (192, 3072), (32, 1, 3, 3)]
shapes = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12)) | st.tuples(*[st.integers(1, 6)] * 3),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("density", [0.01, 0.05, 0.1, 0.25, 0.5, 0.9])
def test_erk_densities_solve_their_equation(density):
    """ε from a root finder: density = ε·(n_in + n_out + Σkernel)/size, at most 1."""
    sizes = np.array([prod(shape) for shape in SHAPES])
    ratios = np.array([sum(shape) / prod(shape) for shape in SHAPES])
    kept = round(density * sizes.sum())

    def excess(log_scale):
        return (np.minimum(np.exp(log_scale) * ratios, 1) * sizes).sum() - kept

    wanted = np.minimum(np.exp(brentq(excess, -20, 20)) * ratios, 1) * sizes
    counts = np.array(layer_counts(SHAPES, kept, "erk"))
    assert counts.sum() == kept
    assert np.abs(counts - wanted).max() < 1
    if density >= 0.25:
        assert (counts == sizes).any()
        assert (counts < sizes).any()


def test_uniform_densities():
    counts = layer_counts([(10, 20), (40, 50), (30, 10)], 250, "uniform")
    assert counts == [20, 200, 30]


def test_erk_by_hand():
    # The sums of the dimensions are 11, 20 and 110: twice that fits, four times exceeds the first.
    shapes = [(5, 5, 1), (10, 10), (10, 100)]
    assert layer_counts(shapes, 282, "erk") == [22, 40, 220]
    assert layer_counts(shapes, 25 + 4 * 130, "erk") == [25, 80, 440]


@settings(max_examples=50)
@given(shapes=shapes, allocation=st.sampled_from(["uniform", "erk"]), data=st.data())
def test_counts_are_exact_within_limits_and_grow_with_the_total(shapes, allocation, data):
    sizes = [prod(shape) for shape in shapes]
    limits = [data.draw(st.integers(0, size)) for size in sizes]
    kept = data.draw(st.integers(0, sum(limits)))
    counts = layer_counts(shapes, kept, allocation, limits)
    assert sum(counts) == kept
    assert all(0 <= count <= limit for count, limit in zip(counts, limits, strict=True))
    if kept >= sum(limit > 0 for limit in limits):
        assert all(count > 0 or limit == 0 for count, limit in zip(counts, limits, strict=True))
    assume(kept < sum(limits))
    more = layer_counts(shapes, kept + 1, allocation, limits)
    assert all(after >= before for before, after in zip(counts, more, strict=True))


@settings(max_examples=50)
@given(shapes=shapes, allocation=st.sampled_from(["uniform", "erk"]), data=st.data())
def test_pruning_in_two_goes_ends_where_one_does(shapes, allocation, data):
    total = sum(prod(shape) for shape in shapes)
    first = data.draw(st.integers(0, total))
    second = data.draw(st.integers(0, first))
    between = layer_counts(shapes, first, allocation)
    assert layer_counts(shapes, second, allocation, between) == layer_counts(
        shapes, second, allocation
    )


def test_more_than_there_is_is_refused():
    with pytest.raises(ValueError, match="cannot be kept"):
        layer_counts([(2, 3)], 7, "erk")
