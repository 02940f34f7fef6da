"""Regularizers against a numerical minimiser, closed forms and the laws of subgradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from sparsify import L1, GroupL1L2

SHAPE = (3, 2, 4)
REGULARIZERS = [L1(), GroupL1L2("kernel"), GroupL1L2("input"), GroupL1L2("output")]
GROUPS = {  # the entries that vanish together, written out
    repr(L1()): [[(o, i, k)] for o in range(3) for i in range(2) for k in range(4)],
    repr(GroupL1L2("kernel")): [[(o, i, k) for k in range(4)] for o in range(3) for i in range(2)],
    repr(GroupL1L2("input")): [[(o, i, k) for o in range(3) for k in range(4)] for i in range(2)],
    repr(GroupL1L2("output")): [[(o, i, k) for i in range(2) for k in range(4)] for o in range(3)],
}


def _value(regularizer, w):
    groups = GROUPS[repr(regularizer)]
    return sum(math.sqrt(len(g)) * math.sqrt(sum(w[e] ** 2 for e in g)) for g in groups)


def _random(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
@pytest.mark.parametrize("threshold", [0.05, 0.4])
def test_prox_is_the_minimiser(regularizer, threshold):
    x = _random(0)

    def objective(flat):
        w = flat.reshape(SHAPE)
        return 0.5 * ((w - x.numpy()) ** 2).sum() + threshold * _value(regularizer, w)

    ours = regularizer.prox(x, threshold).numpy()
    best = objective(ours.ravel())
    # No numerical search finds anything lower, wherever it starts; Powell's needs no derivative.
    for start in (ours.ravel(), x.numpy().ravel(), np.zeros(x.numel())):
        found = minimize(objective, start, method="Powell", options={"maxiter": 4, "ftol": 1e-10})
        assert best <= found.fun + 1e-9
    # And the minimiser of a strictly convex function is unique: the best search ends at our point.
    descent = minimize(objective, ours.ravel(), method="Powell", options={"ftol": 1e-14})
    np.testing.assert_allclose(descent.x, ours.ravel(), atol=1e-3)


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
@given(seed=st.integers(0, 10_000), threshold=st.floats(0.01, 2))
def test_prox_leaves_a_subgradient(regularizer, seed, threshold):
    """`(x − w)/threshold ∈ ∂R(w)`: its pairing with w is R(w), and with no u more than R(u)."""
    x = _random(seed)
    w = regularizer.prox(x, threshold)
    p = (x - w) / threshold
    assert (p * w).sum().item() == pytest.approx(_value(regularizer, w), abs=1e-9)
    for other in (_random(seed + 1), w, x):
        assert (p * other).sum().item() <= _value(regularizer, other) + 1e-9


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
def test_subgradient_is_one(regularizer):
    w = regularizer.prox(_random(3), 0.8)
    assert 0 < torch.count_nonzero(w) < w.numel()
    p = regularizer.subgradient(w)
    assert (p * w).sum().item() == pytest.approx(_value(regularizer, w))
    assert (p * _random(4)).sum() <= _value(regularizer, _random(4)) + 1e-9
    assert (p[w == 0] == 0).all()


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
@given(seed=st.integers(0, 10_000), which=st.integers(0, 23))
def test_weights_vanish_exactly_at_their_threshold(regularizer, seed, which):
    v = _random(seed).float()
    thresholds = regularizer.thresholds(v).expand_as(v)
    lam = thresholds.flatten()[which]
    w = regularizer.prox(v, lam)
    assert torch.equal(w == 0, thresholds <= lam)
    for group in GROUPS[repr(regularizer)]:
        norm = math.sqrt(sum(v[e].item() ** 2 for e in group))
        expected = norm / math.sqrt(len(group))
        assert thresholds[group[0]].item() == pytest.approx(expected, rel=1e-5)


@given(
    values=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=40),
    threshold=st.floats(0, 3, width=32),
)
def test_soft_threshold_matches_closed_form_without_negative_zeros(values, threshold):
    x = torch.tensor(values)
    result = L1().prox(x, threshold)
    expected = torch.sign(x) * torch.clamp(x.abs() - threshold, min=0)
    torch.testing.assert_close(result, expected)
    assert not torch.signbit(result[result == 0]).any()
    grouped = GroupL1L2("output").prox(x.view(1, -1), threshold)
    assert not torch.signbit(grouped[grouped == 0]).any()


def test_kernel_of_a_linear_layer_is_a_weight():
    v = torch.randn(4, 3)
    assert torch.equal(
        GroupL1L2("kernel").prox(v, 0.3), v * ((v.abs() - 0.3).clamp(min=0) / v.abs())
    )
    assert torch.equal(GroupL1L2("kernel").thresholds(v), v.abs())


def test_unknown_groups_are_refused():
    with pytest.raises(ValueError, match="kernel"):
        GroupL1L2("row")
