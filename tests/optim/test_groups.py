"""Parameter groups: which weights are moved and counted, and which settings are refused."""

import pytest
import torch
from torch import nn

from sparsify import (
    L1,
    AdaBreg,
    AdaptiveLambda,
    FixedLambda,
    LinBreg,
    ProxSGD,
    QuantileLambda,
    parameter_groups,
)
from sparsify.sparsity.table import SparsityTable

KINDS = [LinBreg, AdaBreg]


@pytest.mark.parametrize("kind", KINDS)
def test_groups_may_be_added_and_parameters_named(kind, network, train):
    model = network()
    rule = QuantileLambda(0.5, every=1)
    group = {"params": [("weight2", model[2].weight)], "regularizer": L1(), "lr": 0.02}
    optimizer = kind([group], lr=0.05, lambda_rule=rule)
    optimizer.add_param_group({"params": list(model[0].named_parameters())})
    train(model, optimizer, 3)
    assert (model[2].weight == 0).double().mean().item() == pytest.approx(0.5, abs=0.01)
    assert not (model[0].weight == 0).any()
    names = [group["param_names"] for group in optimizer.state_dict()["param_groups"]]
    assert names == [["weight2"], ["weight", "bias"]]


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_weights_are_neither_moved_nor_counted(kind, network, train):
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = kind(parameter_groups(model), lr=0.05, lambda_rule=QuantileLambda(0.5, every=1))
    train(model, optimizer, 3)
    assert optimizer.sparsity == pytest.approx(0.5, abs=0.01)
    assert (model[2].weight == 0).double().mean().item() == optimizer.sparsity
    optimizer.land(0.75)
    assert (model[2].weight == 0).double().mean().item() == 0.75
    assert torch.equal(model[0].weight, before)


def test_a_landed_optimizer_holds_its_support(random_step):
    weight, frozen = nn.Parameter(torch.randn(60)), nn.Parameter(torch.randn(40))
    group = {"params": [weight, frozen], "regularizer": L1()}
    optimizer = LinBreg([group], lr=0.1, lambda_rule=QuantileLambda(0.5))
    frozen.requires_grad_(False)
    frozen.grad = torch.ones(40)
    before = frozen.detach().clone()
    random_step(optimizer, weight, 0)
    assert torch.equal(frozen, before)  # though it has a gradient
    optimizer.land(0.5)
    with pytest.raises(RuntimeError, match="landed"):
        optimizer.lambda_for(0.5)
    frozen.requires_grad_(True)
    weight.data.fill_(3.0)
    optimizer.reset_duals()
    for seed in range(5):
        random_step(optimizer, weight, seed)
    assert int((weight == 0).sum()) == 30
    assert not (frozen == 0).any()


RULES = [
    QuantileLambda(0.5),
    AdaptiveLambda(0.5, every=1, initial=0.1),
    FixedLambda(0.1),
    QuantileLambda(0.5, ramp=4),
]


@pytest.mark.parametrize("kind", [*KINDS, ProxSGD])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_rule_without_anything_to_steer_is_refused(kind, rule, network):
    """As `kind(model.parameters(), lambda_rule=…)` would be, which trains densely."""
    for params in (network().parameters(), [{"params": []}], [{"params": [], "regularizer": None}]):
        with pytest.raises(ValueError, match=r"parameter_groups\(model\)"):
            kind(params, lr=0.1, lambda_rule=rule)


@pytest.mark.parametrize("kind", [*KINDS, ProxSGD])
def test_the_sparsity_of_nothing_is_0_as_in_a_table_of_nothing(kind, random_step):
    weight = nn.Parameter(torch.randn(50))
    optimizer = kind([weight], lr=0.1)
    for seed in range(10):
        random_step(optimizer, weight, seed)
    assert optimizer.sparsity == SparsityTable(()).sparsity == 0


def _frozen(weight):
    weight.requires_grad_(False)
    return [weight]


def _empty(weight):
    return [nn.Parameter(torch.empty(0, 4))]


@pytest.mark.parametrize("kind", [*KINDS, ProxSGD])
@pytest.mark.parametrize("regularised", [lambda weight: [], _frozen, _empty])
def test_what_may_be_regularised_later_waits(kind, regularised, random_step):
    """Empty groups, frozen and empty weights: λ stays until there is something to steer."""
    rule = AdaptiveLambda(0.5, every=1, initial=0.1 if kind is ProxSGD else None)
    weight, other = nn.Parameter(torch.randn(50)), nn.Parameter(torch.randn(3))
    weight.grad = torch.ones(50)
    group = {"params": regularised(weight), "regularizer": L1()}
    optimizer = kind([{"params": []}, group, {"params": [other]}], lr=0.1, lambda_rule=rule)
    for seed in range(12):
        random_step(optimizer, other, seed)
    assert optimizer.lam == rule.initial
    weight.requires_grad_(True)
    optimizer.add_param_group({"params": [nn.Parameter(torch.randn(50))], "regularizer": L1()})
    optimizer.param_groups[-1]["params"][0].grad = torch.ones(50)
    for seed in range(3):
        random_step(optimizer, other, seed)
    assert optimizer.lam != rule.initial


@pytest.mark.parametrize("kind", [*KINDS, ProxSGD])
@pytest.mark.parametrize("groups", [[{"params": []}], [{"params": [], "regularizer": L1()}]])
def test_an_optimizer_of_nothing_steps_lands_and_is_saved(kind, groups):
    optimizer = kind(groups, lr=0.1)
    optimizer.step()
    if kind is not ProxSGD:
        optimizer.land(0.5)
    optimizer.step()
    assert float(optimizer.measure_sparsity()) == 0
    optimizer.load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize("fused_", [None, False])
def test_momentum_and_regularizer_may_come_and_go(fused_, optimizer_of, random_step):
    weight = nn.Parameter(torch.randn(50, generator=torch.Generator().manual_seed(0)))
    optimizer = optimizer_of(weight, fused=fused_)
    group = optimizer.param_groups[0]
    for momentum in (0.0, 0.9, 0.9, 0.0):
        group["momentum"] = momentum
        random_step(optimizer, weight, 0)
    before = weight.detach().clone()
    group["regularizer"] = None
    random_step(optimizer, weight, 1)
    torch.testing.assert_close(weight, before - 0.1 * weight.grad)


@pytest.mark.parametrize("fused_", [None, False])
def test_lambda_scale_does_not_cost_a_zero_where_all_are_equal(fused_):
    weight = nn.Parameter(torch.zeros(100))
    group = {"params": [weight], "regularizer": L1(), "lambda_scale": 3.0}
    optimizer = AdaBreg([group], lr=0.1, lambda_rule=QuantileLambda(0.9), fused=fused_)
    weight.grad = torch.ones(100)
    optimizer.step()
    assert optimizer.sparsity >= 0.9
    assert (weight == 0).double().mean() == optimizer.sparsity


@pytest.mark.parametrize("kind", [*KINDS, ProxSGD])
def test_sparse_gradients_and_complex_parameters_are_refused(kind):
    embedding = nn.Embedding(10, 4, sparse=True)
    optimizer = kind(embedding.parameters(), lr=0.1)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse gradients"):
        optimizer.step()
    with pytest.raises(ValueError, match="complex"):
        kind([nn.Parameter(torch.zeros(3, dtype=torch.complex64))], lr=0.1)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (AdaBreg, {"lr": -1.0}, "lr"),
        (LinBreg, {"lr": float("nan")}, "lr"),
        (AdaBreg, {"betas": (1.0, 0.9)}, "betas"),
        (AdaBreg, {"eps": -1.0}, "eps"),
        (AdaBreg, {"delta": 0.0}, "delta"),
        (AdaBreg, {"weight_decay": -0.1}, "weight_decay"),
        (LinBreg, {"momentum": 1.0}, "momentum"),
        (LinBreg, {"nesterov": True}, "nesterov"),
        (LinBreg, {"lambda_change": "never"}, "keep_dual, keep_weights, rescale"),
        (LinBreg, {"lambda_change": "rescale"}, "initial"),
        (ProxSGD, {"lambda_rule": QuantileLambda(0.5)}, "no dual"),
    ],
)
def test_bad_hyperparameters_are_refused(kind, options, message, network):
    with pytest.raises(ValueError, match=message):
        kind(parameter_groups(network()), **options)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"regularizer": "l1"}, "Regularizer"),
        ({"regularizer": L1(), "lambda_scale": 0.0}, "lambda_scale"),
        ({"lr": -1.0}, "lr"),
    ],
)
def test_bad_groups_are_refused_and_not_kept(group, message, network):
    model = network()
    optimizer = LinBreg(model[0].parameters(), lr=0.1)
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": model[2].parameters(), **group})
    optimizer.add_param_group({"params": model[2].parameters()})
    with pytest.raises(ValueError, match="negative"):
        optimizer.lam = -1.0
