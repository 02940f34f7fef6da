"""A ramp from the sparsity that a trained network has: gentle, exact, and kept on resuming."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from sparsify import AdaBreg, AdaptiveLambda, LinBreg, ProxSGD, QuantileLambda, parameter_groups
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.schedules import Polynomial

KINDS = [(AdaBreg, 1e-3), (LinBreg, 0.03)]
RULES = [QuantileLambda, AdaptiveLambda]


@pytest.fixture
def trained(network, train):
    """A network that has learnt something, and of which a share is zero."""
    learnt = network()
    train(learnt, torch.optim.Adam(learnt.parameters(), lr=0.03), 40)

    def trained(sparsity, threshold=nn.functional.softshrink):
        """Soft thresholding leaves weights that are almost zero, hard thresholding a gap."""
        model = copy.deepcopy(learnt)
        weights = [parameter.data for parameter in prunable_parameters(model).values()]
        if sparsity:
            sizes = torch.cat([weight.abs().flatten() for weight in weights])
            limit = sizes.sort().values[round(sparsity * len(sizes)) - 1].item()
            for weight in weights:
                weight.copy_(threshold(weight, limit))
        return model

    return trained


def _zeros(model):
    return [weight == 0 for weight in prunable_parameters(model).values()]


def _sparsity(model):
    zeros = torch.cat([zero.flatten() for zero in _zeros(model)])
    return zeros.double().mean().item()


@pytest.mark.parametrize(("kind", "lr"), KINDS)
@pytest.mark.parametrize(
    ("rule", "start"),
    [(QuantileLambda, 0.0), (AdaptiveLambda, 0.5), (AdaptiveLambda, 0.8), (QuantileLambda, 0.95)],
)
def test_the_sparsity_follows_the_cubic_from_where_the_weights_are(
    kind, lr, rule, start, trained, train
):
    model = trained(start)
    optimizer = kind(parameter_groups(model), lr=lr, lambda_rule=rule(0.9, every=1, ramp=12))
    expected = Polynomial(_sparsity(model), 0.9, 0, 12)
    for step in range(1, 13):
        train(model, optimizer, 1, step)
        assert optimizer.sparsity == pytest.approx(_sparsity(model))
        assert _sparsity(model) == pytest.approx(expected(step), abs=1.1 / 960)


@pytest.mark.parametrize(("kind", "lr"), KINDS)
@pytest.mark.parametrize(
    ("rule", "start", "threshold"),
    [
        (QuantileLambda, 0.0, nn.functional.softshrink),
        (AdaptiveLambda, 0.5, nn.functional.softshrink),
        (QuantileLambda, 0.8, nn.functional.hardshrink),
        (AdaptiveLambda, 0.0, nn.functional.hardshrink),
        (QuantileLambda, 0.5, nn.functional.hardshrink),
    ],
)
def test_the_first_steps_keep_the_outputs_near(kind, lr, rule, start, threshold, trained, train):
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(99), dtype=torch.float64)

    def change(rule, steps, lr=lr):
        model = trained(start, threshold)
        before = model(x).detach()
        optimizer = kind(parameter_groups(model), lr=lr, lambda_rule=rule)
        train(model, optimizer, steps)
        return float((model(x).detach() - before).norm() / before.norm())

    assert change(rule(0.9, ramp=1000), 1) < 0.03
    few = change(rule(0.9, ramp=1000), 10, lr=1e-6)  # what λ does, not the gradient
    assert few < (0.06 if threshold is nn.functional.softshrink else 0.2)
    assert change(rule(0.9), 1) > 0.3  # the target at once


@pytest.mark.parametrize(("kind", "lr"), KINDS)
@pytest.mark.parametrize("rule", [*RULES, partial(QuantileLambda, smoothing=0.5)])
def test_no_zero_of_a_sparse_start_is_lost_on_the_way_to_more(kind, lr, rule, trained, train):
    for target in (0.8, 0.9):
        model = trained(0.8)
        zeros = _zeros(model)
        optimizer = kind(parameter_groups(model), lr=lr, lambda_rule=rule(target, ramp=20))
        train(model, optimizer, 15)
        for now, was in zip(_zeros(model), zeros, strict=True):
            assert not (was & ~now).any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_a_resumed_ramp_has_the_start_of_the_first_run(rule, start, trained, train, equal):
    def fresh(model):
        return AdaBreg(parameter_groups(model), lambda_rule=rule(0.9, every=2, ramp=12))

    model = trained(start)
    optimizer = fresh(model)
    train(model, optimizer, 5)
    resumed, state = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
    again = fresh(resumed)
    again.load_state_dict(state)
    for each, steps in ((model, optimizer), (resumed, again)):
        train(each, steps, 7, 5)
    assert equal(model, resumed)
    assert _sparsity(model) == pytest.approx(0.9, abs=1.1 / 960)


@pytest.mark.parametrize(("kind", "lr"), [*KINDS, (ProxSGD, 0.01)])
def test_a_first_lambda_that_is_given_stays(kind, lr, trained, train):
    rule = AdaptiveLambda(0.9, initial=0.25, every=10**6, ramp=10)
    model = trained(0.5)
    optimizer = kind(parameter_groups(model), lr=lr, lambda_rule=rule)
    train(model, optimizer, 3)
    assert optimizer.lam == 0.25
    assert rule.target(5) == pytest.approx(0.9 - 0.4 * 0.5**3)


def test_what_is_asked_before_the_first_step_does_not_move_the_weights(trained, train):
    model = trained(0.5)
    optimizer = AdaBreg(parameter_groups(model), lambda_rule=QuantileLambda(0.9, ramp=1000))
    assert optimizer.lambda_for(0.7) > 0  # makes duals, of λ = 0
    twin = copy.deepcopy(model)
    train(twin, AdaBreg(parameter_groups(twin), lambda_rule=QuantileLambda(0.9, ramp=1000)), 1)
    train(model, optimizer, 1)
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own, other)
