"""The optimizers against reference trajectories, torch.optim and the laws they obey."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
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
    parameter_groups,
)

TRAJECTORIES = Path(__file__).parents[1] / "golden" / "bregman_trajectories.safetensors"
CASES = [
    "linbreg_l1",
    "linbreg_l1_momentum",
    "linbreg_l1_delta2",
    "adabreg_l1",
    "adabreg_l1_varying_lambda",
    "adabreg_group_kernel",
    "linbreg_group_kernel",
    "proxsgd_l1",
]


@pytest.mark.parametrize("name", CASES)
def test_trajectory_equals_reference_implementation(name):
    with safe_open(TRAJECTORIES, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        case = next(c for c in json.loads(file.metadata()["cases"]) if c["name"] == name)
    matrix, b = tensors["A"], tensors["b"]
    w = nn.Parameter(tensors["w0"].clone())
    regularizer = GroupL1L2("kernel") if case["regularizer"] == "RegL1L2Conv" else L1()
    kind = {"LinBreg": LinBreg, "AdaBreg": AdaBreg, "ProxSGD": ProxSGD}[case["optimizer"]]
    group = {"params": [w], "regularizer": regularizer}
    optimizer = kind([group], lambda_rule=FixedLambda(0.3), **case["hyper"])
    for k in range(400):
        if isinstance(case["lambda"], str):
            optimizer.lam = 0.3 * (1 + 0.5 * math.sin(k / 17))
        w.grad = (matrix.T @ (matrix @ w.detach().flatten() - b)).view_as(w)
        optimizer.step()
        if f"{name}.w.{k + 1}" in tensors:
            torch.testing.assert_close(w.detach(), tensors[f"{name}.w.{k + 1}"], rtol=0, atol=1e-10)
    if f"{name}.v.400" in tensors:
        dual = optimizer.state[w]["dual"]
        torch.testing.assert_close(dual, tensors[f"{name}.v.400"], rtol=0, atol=1e-10)


def _train(model, optimizer, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(16, 12, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        (model(x) - x.roll(1, 1)).square().mean().backward()
        optimizer.step()


def _network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 12)).double()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: LinBreg(p, lr=0.3), lambda p: torch.optim.SGD(p, lr=0.3)),
        (
            lambda p: LinBreg(p, lr=0.3, momentum=0.9, weight_decay=0.01),
            lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9, weight_decay=0.01),
        ),
        (lambda p: AdaBreg(p, lr=0.01), lambda p: torch.optim.Adam(p, lr=0.01)),
        (
            lambda p: AdaBreg(p, lr=0.01, weight_decay=0.1),
            lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        ),
    ],
    ids=["sgd", "sgd-momentum", "adam", "adamw"],
)
def test_without_lambda_equals_torch(ours, theirs):
    first, second = _network(), _network()
    _train(first, ours(parameter_groups(first)), 50)
    _train(second, theirs(second.parameters()), 50)
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
@pytest.mark.parametrize("delta", [1.0, 2.5])
def test_dual_is_a_subgradient_after_every_step(kind, delta):
    model = _network()
    optimizer = kind(
        parameter_groups(model), lr=0.02, delta=delta, lambda_rule=QuantileLambda(0.7, every=3)
    )
    for step in range(12):
        _train(model, optimizer, 1, seed=step)
        for p in (model[0].weight, model[2].weight):
            rest = optimizer.state[p]["dual"] - p / delta
            lam = torch.tensor(optimizer.lam, dtype=rest.dtype)
            on = p != 0
            torch.testing.assert_close(rest[on], (lam * p.sign())[on])
            assert (rest[~on].abs() <= lam * (1 + 1e-12)).all()


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
@pytest.mark.parametrize("target", [0.5, 0.75, 0.9])
def test_quantile_rule_meets_the_target_at_once(kind, target):
    model = _network()
    optimizer = kind(parameter_groups(model), lr=0.05, lambda_rule=QuantileLambda(target, every=1))
    _train(model, optimizer, 5)
    size = model[0].weight.numel() + model[2].weight.numel()
    assert abs(optimizer.sparsity - target) <= 1.01 / size


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
def test_adaptive_rule_finds_the_target(kind):
    model = _network()
    optimizer = kind(
        parameter_groups(model),
        lr=0.01,
        lambda_rule=AdaptiveLambda(0.8, every=1, warmup=5),
    )
    _train(model, optimizer, 600)
    assert abs(optimizer.sparsity - 0.8) < 0.02


def test_adaptive_rule_follows_its_formula():
    rule = AdaptiveLambda(0.9, alpha=0.5, every=4, initial=2.0, bounds=(0.1, 2.1))
    lam = torch.tensor(2.0, dtype=torch.float64)
    assert not rule.due(3)
    assert rule.due(4)
    assert rule.after_prox(lam, torch.tensor(0.98), 4).item() == pytest.approx(2 / 1.04)
    assert rule.after_prox(lam, torch.tensor(0.86), 4).item() == pytest.approx(2 * 1.02)
    assert rule.after_prox(lam, torch.tensor(0.5), 4).item() == pytest.approx(2.1)


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
@pytest.mark.parametrize(
    ("regularizer", "largest_group"),
    [(L1(), 1), (GroupL1L2("output"), 40), (GroupL1L2("input"), 40)],
)
def test_landing_is_exact_and_held(kind, regularizer, largest_group):
    model = _network()
    optimizer = kind(parameter_groups(model, regularizer), lr=0.05, lambda_rule=QuantileLambda(0.1))
    _train(model, optimizer, 10)
    optimizer.land(0.3)
    weights = [model[0].weight, model[2].weight]
    support = [w != 0 for w in weights]
    before = [w.detach().clone() for w in weights]
    zeros = sum(int((~s).sum()) for s in support)
    assert abs(zeros - round(0.3 * sum(s.numel() for s in support))) <= largest_group - 1
    _train(model, optimizer, 10)
    assert all(torch.equal(w != 0, s) for w, s in zip(weights, support, strict=True))
    assert not any(torch.equal(w, b) for w, b in zip(weights, before, strict=True))


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_landing_is_exact_where_thresholds_are_equal(sparsity):
    model = _network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[2].weight.grad = -torch.ones_like(model[2].weight)
    optimizer = AdaBreg(parameter_groups(model), lr=0.1, lambda_rule=FixedLambda(1.0))
    optimizer.step()  # all duals have the same size now
    optimizer.land(sparsity)
    weights = [model[0].weight, model[2].weight]
    zeros = sum(int((w == 0).sum()) for w in weights)
    assert zeros == round(sparsity * sum(w.numel() for w in weights))
    with pytest.raises(ValueError, match="0, 1"):
        optimizer.land(1.5)


def test_duals_of_bfloat16_weights_keep_their_precision_on_loading():
    model = _network().bfloat16()
    optimizer = AdaBreg(parameter_groups(model), lr=0.01, lambda_rule=FixedLambda(0.1))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.3)
    for _ in range(3):
        optimizer.step()
    resumed = AdaBreg(parameter_groups(model), lr=0.01, lambda_rule=FixedLambda(0.1))
    resumed.load_state_dict(optimizer.state_dict())
    dual, loaded = (o.state[model[0].weight]["dual"] for o in (optimizer, resumed))
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, dual)


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
@pytest.mark.parametrize("landed", [False, True])
def test_state_dict_resumes_exactly(kind, landed, tmp_path):
    def fresh():
        model = _network()
        rule = AdaptiveLambda(0.8, every=3, warmup=4)
        return model, kind(parameter_groups(model), lr=0.02, lambda_rule=rule)

    model, optimizer = fresh()
    _train(model, optimizer, 7)
    if landed:
        optimizer.land(0.8)
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    _train(model, optimizer, 7, seed=1)
    again, resumed = fresh()
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    _train(again, resumed, 7, seed=1)
    assert resumed.lam == optimizer.lam
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)


def test_parameters_without_gradient_are_left_alone():
    model = _network()
    optimizer = AdaBreg(parameter_groups(model), lr=0.1, lambda_rule=FixedLambda(5.0))
    before = model[0].weight.detach().clone()
    model[2].weight.grad = torch.ones_like(model[2].weight)
    optimizer.step()
    assert torch.equal(model[0].weight, before)
    assert not model[0].weight.grad


def test_reset_duals_keeps_weights_written_later():
    model = _network()
    optimizer = LinBreg(parameter_groups(model), lr=0.01, lambda_rule=FixedLambda(0.1))
    _train(model, optimizer, 3)
    with torch.no_grad():
        model[0].weight.fill_(7.0)
    optimizer.reset_duals()
    _train(model, optimizer, 1)
    torch.testing.assert_close(
        model[0].weight, torch.full_like(model[0].weight, 7.0), atol=0.1, rtol=0
    )


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


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (AdaBreg, {"lr": -1.0}),
        (AdaBreg, {"betas": (1.0, 0.9)}),
        (AdaBreg, {"delta": 0.0}),
        (LinBreg, {"momentum": 1.0}),
        (ProxSGD, {"lambda_rule": QuantileLambda(0.5)}),
    ],
)
def test_bad_hyperparameters_are_refused(kind, options):
    with pytest.raises(ValueError, match=r"must|no dual"):
        kind(parameter_groups(_network()), **options)
