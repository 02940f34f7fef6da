"""Weights without a gradient: they are of those whose sparsity is wanted, measured and met."""

import pytest
import torch
from torch import nn

from sparsify import (
    L1,
    AdaBreg,
    AdaptiveLambda,
    FixedLambda,
    GroupL1L2,
    LinBreg,
    ProxSGD,
    QuantileLambda,
)

KINDS = [LinBreg, AdaBreg]


def _weights():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(50, 20, generator=generator)) for _ in range(2)]


def _step(optimizer, weights, seed, busy=(0,)):
    generator = torch.Generator().manual_seed(seed)
    for place, weight in enumerate(weights):
        gradient = torch.randn(weight.shape, generator=generator)
        weight.grad = gradient if place in busy else None
    optimizer.step()


def _sparsity(weights):
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def _groups(weights, regularizer=None):
    together = {"params": weights, "regularizer": regularizer or L1()}
    apart = [{"params": [weight], "regularizer": regularizer or L1()} for weight in weights]
    return [[together], apart]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arranged", [0, 1])
@pytest.mark.parametrize("target", [0.25, 0.5, 0.9])
def test_half_of_the_weights_idle_does_not_cost_the_target(kind, arranged, target, how):
    weights = _weights()
    rule = QuantileLambda(target, every=2)
    optimizer = kind(_groups(weights)[arranged], lr=0.01, lambda_rule=rule, **how)
    for seed in range(4):
        _step(optimizer, weights, seed)
    assert optimizer.sparsity == pytest.approx(_sparsity(weights)) == pytest.approx(target)
    assert (weights[1] == 0).any()
    optimizer.land(target)
    for seed in range(3):
        _step(optimizer, weights, seed)
    assert optimizer.sparsity == pytest.approx(_sparsity(weights)) == pytest.approx(target)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regularizer", [L1(), GroupL1L2("output")], ids=repr)
def test_weights_follow_their_duals_whether_or_not_these_move(kind, regularizer, how):
    """A branch that is not taken in a step: `w = δ·S_λ(v)` all the same, with the `v` of before."""
    weights = _weights()
    rule = QuantileLambda(0.6, every=1)
    optimizer = kind(_groups(weights, regularizer)[0], lr=0.3, delta=2.0, lambda_rule=rule, **how)
    for seed, busy in enumerate([(0, 1), (0,), (1,), (0, 1), (), (1,)]):
        before = [optimizer.state.get(w, {}).get("dual", w).detach().clone() for w in weights]
        _step(optimizer, weights, seed, busy)
        for place, weight in enumerate(weights):
            dual = optimizer.state[weight]["dual"]
            torch.testing.assert_close(weight, 2 * regularizer.prox(dual, optimizer.lam))
            assert torch.equal(dual, before[place]) == (place not in busy)
        assert optimizer.sparsity == pytest.approx(_sparsity(weights))
        assert abs(_sparsity(weights) - 0.6) < 0.011  # a group of 20 of 2000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["keep_dual", "keep_weights", "rescale"])
def test_the_adaptive_rule_reaches_its_target_with_idle_weights(kind, change):
    weights = _weights()
    rule = AdaptiveLambda(0.75, alpha=2.0, every=1, initial=0.1)
    optimizer = kind(_groups(weights)[0], lr=0.01, lambda_rule=rule, lambda_change=change)
    for seed in range(200):
        _step(optimizer, weights, seed)
    if change != "keep_weights":  # of which a rising λ makes no zeros
        assert _sparsity(weights) == pytest.approx(0.75, abs=0.01)
    assert optimizer.sparsity == pytest.approx(_sparsity(weights))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fixed_lambda_leaves_idle_weights_where_they_are(kind, how):
    weights = _weights()
    optimizer = kind(_groups(weights)[0], lr=0.1, lambda_rule=FixedLambda(0.5), **how)
    before = weights[1].detach().clone()
    for seed in range(3):
        _step(optimizer, weights, seed)
    torch.testing.assert_close(weights[1], before, rtol=0, atol=1e-6)
    assert weights[1].grad is None


def test_prox_sgd_shrinks_idle_weights_too():
    weights = _weights()
    before = weights[1].detach().clone()
    optimizer = ProxSGD(_groups(weights)[0], lr=0.1, lambda_rule=FixedLambda(2.0), momentum=0.9)
    for seed in range(3):
        _step(optimizer, weights, seed)
    expected = before.sign() * (before.abs() - 3 * 0.1 * 2.0).clamp(min=0)
    torch.testing.assert_close(weights[1], expected)
    rule = AdaptiveLambda(0.75, every=1, initial=0.1)
    optimizer = ProxSGD(_groups(weights)[0], lr=0.01, lambda_rule=rule)
    for seed in range(300):
        _step(optimizer, weights, seed)
    assert optimizer.sparsity == _sparsity(weights) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_freeze_and_thaw_are_of_the_set_only_in_between(kind, how):
    weights = _weights()
    optimizer = kind(_groups(weights)[0], lr=0.1, lambda_rule=QuantileLambda(0.5, every=1), **how)
    for seed in range(9):
        frozen = 3 <= seed < 6
        weights[1].requires_grad_(not frozen)
        before = weights[1].detach().clone()
        _step(optimizer, weights, seed)
        counted = weights[:1] if frozen else weights
        assert optimizer.sparsity == pytest.approx(_sparsity(counted)) == pytest.approx(0.5)
        assert torch.equal(weights[1], before) == frozen


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_thaw_after_landing_keep_their_zeros(kind, how):
    weights = _weights()
    optimizer = kind(_groups(weights)[0], lr=0.01, lambda_rule=QuantileLambda(0.9), **how)
    for seed in range(4):
        _step(optimizer, weights, seed, busy=(0, 1))
    weights[1].requires_grad_(False)
    optimizer.land(0.9)
    zeros, before = weights[1] == 0, weights[1].detach().clone()
    weights[1].requires_grad_(True)
    _step(optimizer, weights, 5, busy=(0, 1))
    assert torch.equal(weights[1] == 0, zeros)
    assert 0 < (weights[1] - before).abs().max() < 0.2  # a step, not a leap
