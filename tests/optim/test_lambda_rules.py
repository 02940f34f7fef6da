"""The λ rules against naive loops and the law of the quantile."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sparsify import L1, AdaBreg, AdaptiveLambda, FixedLambda, GroupL1L2, LinBreg, QuantileLambda
from sparsify.sparsity.schedules import Polynomial


def _lam(value):
    return torch.tensor(value, dtype=torch.float64)


def test_adaptive_rule_follows_its_formula():
    rule = AdaptiveLambda(0.9, alpha=0.5, every=4, initial=2.0, bounds=(0.1, 2.1))
    lam = _lam(2.0)
    assert not rule.due(3)
    assert rule.due(4)
    assert rule.after_prox(lam, _lam(0.98), 4).item() == pytest.approx(2 / 1.04)
    assert rule.after_prox(lam, _lam(0.86), 4).item() == pytest.approx(2 * 1.02)
    assert rule.after_prox(lam, _lam(0.5), 4).item() == pytest.approx(2.1)
    assert rule.after_prox(lam, _lam(0.9), 4).item() == 2.0


@given(
    sparsities=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    damping=st.floats(0.5, 1),
    alpha=st.floats(0.1, 2),
)
def test_damping_counts_sign_changes_as_a_naive_loop_does(sparsities, damping, alpha):
    rule = AdaptiveLambda(0.7, alpha, every=1, initial=0.3, damping=damping, bounds=(1e-9, 1e9))
    lam = _lam(0.3)
    expected, signs = 0.3, []
    for step, sparsity in enumerate(sparsities, 1):
        lam = rule.after_prox(lam, _lam(sparsity), step)
        gap = 0.7 - sparsity
        if gap != 0:
            signs.append(gap > 0)
        changes = sum(a != b for a, b in itertools.pairwise(signs))
        factor = 1 + alpha * damping ** max(changes - 1, 0) * abs(gap)
        expected = min(max(expected * factor if gap > 0 else expected / factor, 1e-9), 1e9)
    assert lam.item() == pytest.approx(expected, rel=1e-9)


def test_damping_survives_saving():
    def after(rule, sparsities):
        lam = _lam(1.0)
        for step, sparsity in enumerate(sparsities, 1):
            lam = rule.after_prox(lam, _lam(sparsity), step)
        return lam

    def fresh():
        return AdaptiveLambda(0.7, every=1, initial=1.0, damping=0.5)

    first, through = [0.6, 0.8, 0.6, 0.8], fresh()
    after(through, first)
    resumed = fresh()
    resumed.load_state_dict(through.state_dict())
    assert after(resumed, [0.5]) == after(through, [0.5])
    assert after(fresh(), [0.5]) != after(resumed, [0.5])


def test_smoothing_is_a_geometric_mean():
    rule = QuantileLambda(0.9, every=2, smoothing=0.75)
    assert rule.before_prox(_lam(0.0), lambda _: _lam(5.0), 1).item() == 5.0
    assert rule.before_prox(_lam(16.0), lambda _: _lam(1.0), 2).item() == pytest.approx(8.0)
    assert rule.before_prox(_lam(2.0), lambda _: _lam(0.0), 2).item() == 0.0
    exact = QuantileLambda(0.9)
    assert exact.before_prox(_lam(16.0), _lam, 2).item() == 0.9


def test_ramps_set_the_sparsity_that_is_asked_for():
    asked = []

    def quantile(share):
        asked.append(share)
        return _lam(1.0)

    rule = QuantileLambda(Polynomial(0.2, 0.8, 0, 4, power=1), every=2)
    for step in (1, 2, 4, 6):
        rule.before_prox(_lam(1.0), quantile, step)
    assert asked == pytest.approx([0.35, 0.5, 0.8, 0.8])


def _least(thresholds, scale):
    """The least float32 λ for which `scale·λ` reaches the thresholds."""
    wanted = thresholds.numpy()
    lam = wanted / np.float32(scale)
    for _ in range(3):
        lam = np.where(lam.astype(float) * scale < wanted, np.nextafter(lam, np.inf), lam)
        less = np.nextafter(lam, np.float32(0))
        lam = np.where(less.astype(float) * scale >= wanted, less, lam)
    return torch.from_numpy(lam.astype(np.float32))


QUARTERS = st.sampled_from([-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("implementation", ["eager", "fused"])
@given(
    values=st.lists(st.one_of(QUARTERS, st.floats(-2, 2, width=32)), min_size=24, max_size=24),
    scale=st.sampled_from([1.0, 0.5, 0.37]),
    target=st.floats(0.01, 0.99),
    kind=st.sampled_from([LinBreg, AdaBreg]),
)
def test_law_of_the_quantile(implementation, values, scale, target, kind):
    """`#{t < λ} ≤ zeros ≤ #{t ≤ λ}` under ties, λ scales and groups, and no smaller λ would do."""
    halves = [nn.Parameter(torch.tensor(values[i : i + 12]).view(2, 2, 3)) for i in (0, 12)]
    regularizers = [L1(), GroupL1L2("kernel")]
    groups = [
        {"params": [halves[0]], "regularizer": regularizers[0], "lambda_scale": 1.0},
        {"params": [halves[1]], "regularizer": regularizers[1], "lambda_scale": scale},
    ]
    optimizer = kind(
        groups,
        lr=0.25,
        lambda_rule=QuantileLambda(target, every=1),
        fused=None if implementation == "fused" else False,
    )
    for half in halves:
        half.grad = torch.ones_like(half)
    optimizer.step()
    thresholds = torch.cat(
        [
            _least(regularizer.thresholds(optimizer.state[half]["dual"]), c)
            .expand_as(half)
            .flatten()
            for half, regularizer, c in zip(halves, regularizers, (1.0, scale), strict=True)
        ]
    )
    lam = torch.tensor(optimizer.lam, dtype=torch.float32)
    assert lam == optimizer.lam
    zeros = sum(  # in groups that vanished; a group that stays may hold a zero by chance
        int((regularizer.thresholds(half) == 0).expand_as(half).sum())
        for half, regularizer in zip(halves, regularizers, strict=True)
    )
    below, upto = int((thresholds < lam).sum()), int((thresholds <= lam).sum())
    assert below <= zeros <= upto
    wanted = max(round(target * 24), 1)
    assert below < wanted <= upto
    assert optimizer.sparsity == pytest.approx(sum(int((h == 0).sum()) for h in halves) / 24)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedLambda(-1.0), "negative"),
        (lambda: FixedLambda(float("nan")), "negative"),
        (lambda: QuantileLambda(1.0), "target_sparsity"),
        (lambda: QuantileLambda(0.5, every=0), "every"),
        (lambda: QuantileLambda(0.5, smoothing=1.0), "smoothing"),
        (lambda: QuantileLambda(0.5, ramp=-1), "ramp"),
        (lambda: AdaptiveLambda(Polynomial(0.1, 0.5, 0, 9), ramp=9), "schedule"),
        (lambda: AdaptiveLambda(0.5, alpha=0.0), "alpha"),
        (lambda: AdaptiveLambda(0.5, damping=0.0), "damping"),
        (lambda: AdaptiveLambda(0.5, bounds=(0.0, 1.0)), "bounds"),
        (lambda: AdaptiveLambda(0.5, initial=0.0), "initial"),
        (lambda: AdaptiveLambda(0.5, warmup=0), "warmup"),
        (lambda: FixedLambda(math.inf), "finite"),
        (lambda: QuantileLambda(0.5, every=1.5), "every"),
        (lambda: QuantileLambda("0.5"), "target_sparsity"),
        (lambda: AdaptiveLambda(0.5, bounds=(1e-6, math.inf)), "bounds"),
        (lambda: AdaBreg([torch.nn.Parameter(torch.ones(2))], betas=(0.9,)), "betas"),
        (lambda: AdaBreg([torch.nn.Parameter(torch.ones(2))], lr=math.inf), "lr"),
        (lambda: AdaBreg([torch.nn.Parameter(torch.ones(2))], delta=math.inf), "delta"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
