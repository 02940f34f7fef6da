"""λ and landing where weights differ in cost, against sums over sorted thresholds."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify import L1, AdaBreg, AdaptiveLambda, GroupL1L2, LinBreg, QuantileLambda
from sparsify.optim.duals import Duals, quantile
from sparsify.optim.prescribed import lambda_leaving


def weights_with_costs():
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 5, 3), (7, 4), (5, 8)]
    weights = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    mixed = torch.ones(5, 8, dtype=torch.int64)
    mixed[:, :3] = 200
    return weights, dict(zip(weights, [200, 1, mixed], strict=True))


def spread(weights, costs):
    return np.concatenate([np.broadcast_to(costs[w], w.shape).ravel() for w in weights])


def nonzero(weights):
    return np.concatenate([(w.detach() != 0).numpy().ravel() for w in weights])


def trained(kind, how, rule, steps=12):
    weights, costs = weights_with_costs()
    groups = [{"params": weights, "regularizer": L1()}]
    optimizer = kind(groups, lr=0.05, lambda_rule=rule, **how)
    optimizer.weigh(costs)
    step(optimizer, weights, range(steps))
    return optimizer, weights, costs


def step(optimizer, weights, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("kind", [AdaBreg, LinBreg])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.95])
def test_lambda_is_the_quantile_of_the_cost(kind, sparsity, how):
    optimizer, weights, costs = trained(kind, how, QuantileLambda(sparsity, every=1))
    prices, left = spread(weights, costs), nonzero(weights)
    wanted = (1 - sparsity) * prices.sum()
    assert wanted - prices.max() < prices[left].sum() <= wanted + 0.5
    assert optimizer.sparsity == pytest.approx(1 - prices[left].sum() / prices.sum(), abs=1e-12)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_landing_keeps_the_largest_duals_that_the_budget_pays(sparsity, how):
    optimizer, weights, costs = trained(AdaBreg, how, QuantileLambda(0.6, every=1))
    duals = np.concatenate([optimizer.state[w]["dual"].abs().numpy().ravel() for w in weights])
    prices = spread(weights, costs)
    budget = prices.sum() - round(sparsity * prices.sum())
    order = np.argsort(-duals, kind="stable")
    expected = np.zeros(len(duals), dtype=bool)
    expected[order[np.cumsum(prices[order]) <= budget]] = True
    optimizer.land(sparsity)
    assert np.array_equal(nonzero(weights), expected)
    step(optimizer, weights, range(100, 103))
    assert np.array_equal(nonzero(weights), expected)


def test_the_adaptive_rule_pursues_the_cost(how):
    rule = AdaptiveLambda(0.8, every=1)
    _, weights, costs = trained(LinBreg, how, rule, steps=400)
    prices, left = spread(weights, costs), nonzero(weights)
    assert prices[left].sum() / prices.sum() == pytest.approx(0.2, abs=0.06)


def test_a_sparse_start_is_given_back_on_a_ramp(how):
    """At the target of the start λ stays between the duals of the zeros and those of the others."""
    weights, costs = weights_with_costs()
    with torch.no_grad():
        for weight in weights:
            weight[weight.abs() < 1] = 0
    before, prices = nonzero(weights), spread(weights, costs)
    start = 1 - prices[before].sum() / prices.sum()
    rule = QuantileLambda(float(start) - 0.4 / prices.sum(), every=1, ramp=4)
    optimizer = AdaBreg(
        [{"params": weights, "regularizer": L1()}], lr=1e-9, lambda_rule=rule, **how
    )
    optimizer.weigh(costs)
    sizes = [weight.detach().clone() for weight in weights]
    step(optimizer, weights, range(8))
    for weight, size in zip(weights, sizes, strict=True):
        torch.testing.assert_close(weight.detach(), size, rtol=0, atol=1e-6)


def test_groups_cost_what_their_weights_do():
    weights, costs = weights_with_costs()
    groups = [{"params": weights, "regularizer": GroupL1L2("input")}]
    optimizer = LinBreg(groups, lr=0.05, lambda_rule=QuantileLambda(0.5, every=1))
    optimizer.weigh(costs)
    step(optimizer, weights, range(5))
    optimizer.land(0.7)
    prices, left = spread(weights, costs), nonzero(weights)
    dearest = max(200 * 6 * 3, 200 * 5)  # of an input channel
    assert 0.3 * prices.sum() - dearest < prices[left].sum() <= 0.3 * prices.sum() + 0.5


def test_a_copy_keeps_the_costs(how):
    optimizer, _, _ = trained(AdaBreg, how, QuantileLambda(0.8, every=1))
    twin = copy.deepcopy(optimizer)
    assert float(twin.measure_sparsity()) == float(optimizer.measure_sparsity())


@settings(max_examples=60)
@given(
    sizes=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=30),
    data=st.data(),
)
def test_the_weighted_quantile_of_a_sort(sizes, data):
    costs = data.draw(st.lists(st.integers(0, 300), min_size=len(sizes), max_size=len(sizes)))
    share = data.draw(st.floats(0, 1))
    dual, cost = torch.tensor(sizes), torch.tensor(costs)
    total = sum(costs)
    if not total:
        return
    found = float(quantile([Duals([dual], L1(), 1.0, False, cost)], share))
    rank = min(max(round(share * total), 1), total)
    order = np.argsort(sizes, kind="stable")
    reached = np.cumsum(np.array(costs)[order])
    assert found == np.array(sizes, dtype=np.float32)[order][np.searchsorted(reached, rank)]


@given(
    values=st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    free=st.integers(0, 400),
    data=st.data(),
)
def test_lambda_leaves_no_more_than_is_free(values, free, data):
    costs = torch.tensor(
        data.draw(st.lists(st.integers(1, 20), min_size=len(values), max_size=len(values)))
    )
    gradients = torch.tensor(values, dtype=torch.float64)
    lam = lambda_leaving(gradients, free, costs)
    assert int(costs[gradients.abs() > lam].sum()) <= free
