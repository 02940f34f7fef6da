"""The radix select against a sort."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.optim.compiled import dual_histogram, fits
from sparsify.optim.selection import Thresholds, order_statistic, scaled, threshold_histogram

VALUES = st.lists(
    st.one_of(
        st.floats(0, 2.0**90, width=32, allow_subnormal=False),
        st.sampled_from([0.0, 1e-3, 1.0, 1.0000001]),
    ),
    min_size=1,
    max_size=60,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(values=VALUES, data=st.data())
def test_finds_the_order_statistic_with_and_without_a_guess(dtype, values, data):
    rank = data.draw(st.integers(1, len(values)))
    guess = data.draw(st.one_of(st.none(), st.sampled_from(values), st.floats(1e-6, 1e6)))
    tensor = torch.tensor(values, dtype=dtype)
    histogram = threshold_histogram([Thresholds(tensor, 1)], dtype)
    near = None if not guess else torch.tensor(guess, dtype=torch.float64)
    found = order_statistic(histogram, torch.tensor(rank), dtype, near)
    assert found.dtype == dtype
    assert found == tensor.sort().values[rank - 1]


@given(
    groups=st.lists(st.tuples(VALUES, st.integers(1, 5)), min_size=1, max_size=3), data=st.data()
)
def test_groups_weigh_as_much_as_they_have_weights(groups, data):
    spread = torch.cat([torch.tensor(v).repeat_interleave(n) for v, n in groups])
    rank = data.draw(st.integers(1, spread.numel()))
    thresholds = [Thresholds(torch.tensor(v), n) for v, n in groups]
    histogram = threshold_histogram(thresholds, torch.float32)
    found = order_statistic(histogram, torch.tensor(rank), torch.float32)
    assert found == spread.sort().values[rank - 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_compiled_histogram_equals_the_torch_one(dtype, scale):
    generator = torch.Generator().manual_seed(0)
    duals = [torch.randn(n, generator=generator, dtype=dtype) for n in (1, 63, 64, 100_000)]
    duals.append(torch.tensor([0.0, -0.0, 0.37, -0.37, float("inf")], dtype=dtype))
    if not fits(duals[0]):
        pytest.skip("needs a C compiler")
    compiled = dual_histogram(duals, scale)
    plain = threshold_histogram([Thresholds(scaled(d.abs(), scale), 1) for d in duals], dtype)
    seen = []

    def both(bins):
        counts = compiled(bins)
        assert torch.equal(counts, plain(bins))
        seen.append(bins)
        return counts

    size = sum(dual.numel() for dual in duals)
    for guess in (None, torch.tensor(0.5), torch.tensor(1.1)):
        order_statistic(both, torch.tensor(size // 2), dtype, guess)
    assert len(seen) > 6
