"""The optimizers against reference trajectories, torch.optim and the laws they obey."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.optim import SGD, Adam, AdamW

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
from sparsify.errors import NotFiniteError

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
def test_trajectory_equals_reference_implementation(name, how):
    with safe_open(TRAJECTORIES, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        case = next(c for c in json.loads(file.metadata()["cases"]) if c["name"] == name)
    matrix, b = tensors["A"], tensors["b"]
    w = nn.Parameter(tensors["w0"].clone())
    regularizer = GroupL1L2("kernel") if case["regularizer"] == "RegL1L2Conv" else L1()
    kind = {"LinBreg": LinBreg, "AdaBreg": AdaBreg, "ProxSGD": ProxSGD}[case["optimizer"]]
    group = {"params": [w], "regularizer": regularizer}
    options = case["hyper"] if kind is ProxSGD else case["hyper"] | how
    optimizer = kind([group], lambda_rule=FixedLambda(0.3), **options)
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
        ((LinBreg, {"lr": 0.3}), (SGD, {"lr": 0.3})),
        (
            (LinBreg, {"lr": 0.3, "momentum": 0.9, "weight_decay": 0.01}),
            (SGD, {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.01}),
        ),
        (
            (LinBreg, {"lr": 0.3, "momentum": 0.9, "nesterov": True}),
            (SGD, {"lr": 0.03, "momentum": 0.9, "nesterov": True}),
        ),
        ((AdaBreg, {"lr": 0.01}), (Adam, {"lr": 0.01})),
        (
            (AdaBreg, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-4}),
            (AdamW, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95), "eps": 1e-4}),
        ),
    ],
    ids=["sgd", "sgd-momentum", "sgd-nesterov", "adam", "adamw"],
)
@pytest.mark.parametrize("landed", [False, True])
def test_without_lambda_equals_torch(ours, theirs, how, landed):
    first, second = _network(), _network()
    optimizer = ours[0](parameter_groups(first), **ours[1], **how)
    if landed:  # with a mask that keeps everything
        optimizer.land(0.0)
        second.load_state_dict(first.state_dict())
    _train(first, optimizer, 50)
    _train(second, theirs[0](second.parameters(), **theirs[1]), 50)
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("regularizer", "dtype"),
    [
        (L1(), torch.float32),
        (L1(), torch.float64),
        (GroupL1L2("kernel"), torch.float32),
        (None, torch.float64),
    ],
)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (LinBreg, {"lr": 0.1}),
        (LinBreg, {"lr": 0.3, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (AdaBreg, {"lr": 0.01, "delta": 2.0}),
        (AdaBreg, {"lr": 0.01, "weight_decay": 0.1}),
    ],
)
def test_ways_to_compute_a_step_agree(kind, options, regularizer, dtype, compiled, readable):
    """Also through landing, with λ scales, gradients that come and go, and odd memory layouts."""
    results = []
    for way in (readable, compiled):
        generator = torch.Generator().manual_seed(0)

        def randn(*shape, generator=generator):
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        weights = [nn.Parameter(randn(*s)) for s in ((33_000, 2, 1), (5, 3, 2), (0, 4), (7, 1, 1))]
        transposed = randn(4, 6).T  # the C code takes contiguous weights only
        weights.append(nn.Parameter(transposed.contiguous() if way["fused"] else transposed))
        groups = [
            {"params": weights[:3], "regularizer": regularizer, "lambda_scale": 0.5},
            {"params": weights[3:], "regularizer": L1()},
        ]
        optimizer = kind(groups, lambda_rule=QuantileLambda(0.6, every=2), **options, **way)
        for step in range(7):
            for weight in weights:
                weight.grad = randn(*weight.shape)
            weights[1].grad = None if step % 2 else randn(3, 2, 5).permute(2, 0, 1)
            optimizer.step()
            if step == 4:
                optimizer.land(0.7)
        results.append([*weights, torch.tensor([optimizer.lam, optimizer.sparsity])])
    for ours, other in zip(*results, strict=True):
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(ours, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("kind", "delta"), [(LinBreg, 1.0), (AdaBreg, 2.5)])
@pytest.mark.parametrize(
    "regularizer",
    [L1(), GroupL1L2("kernel"), GroupL1L2("input"), GroupL1L2("output")],
    ids=repr,
)
@pytest.mark.parametrize("change", ["keep_dual", "keep_weights", "rescale"])
def test_dual_is_a_subgradient_after_every_step(kind, delta, regularizer, change, how):
    """`v − w/δ ∈ λ·∂R(w)` (times λ where the weights are divided by it), and zeros are +0.0."""
    model = nn.Sequential(nn.Conv1d(6, 10, 3), nn.Tanh(), nn.Flatten(), nn.Linear(20, 12)).double()
    rule = QuantileLambda(0.7, every=3)
    if change != "keep_dual":
        rule = AdaptiveLambda(0.7, alpha=5.0, every=1, initial=0.4)
    optimizer = kind(
        parameter_groups(model, regularizer),
        lr=0.02,
        delta=delta,
        lambda_rule=rule,
        lambda_change=change,
        **how,
    )
    generator = torch.Generator().manual_seed(0)
    lams = set()
    for _ in range(12):
        x = torch.randn(8, 6, 4, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        (model(x) - x[:, :3].flatten(1)).square().mean().backward()
        if change == "rescale":  # the rule moves λ after the weights, which the next step divides
            lam = optimizer.lam
        optimizer.step()
        if change != "rescale":
            lam = optimizer.lam
        lams.add(lam)
        for p in (model[0].weight, model[3].weight):
            dual = optimizer.state[p]["dual"]
            rest = dual - p / delta * (lam if change == "rescale" else 1)
            on = (regularizer.thresholds(p) > 0).expand_as(p)
            torch.testing.assert_close(rest[on], (lam * regularizer.subgradient(p))[on])
            assert (regularizer.thresholds(rest).expand_as(p)[~on] <= lam * (1 + 1e-12)).all()
            assert not torch.signbit(p[p == 0]).any()
    assert len(lams) > 2


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


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
def test_only_gradients_of_held_zeros_are_masked(kind):
    model = _network()
    optimizer = kind(parameter_groups(model), lr=0.05, lambda_rule=QuantileLambda(0.5))
    optimizer.mask_gradients()
    _train(model, optimizer, 10)
    before = [p.grad.clone() for p in model.parameters()]
    optimizer.mask_gradients()  # the duals of zeros move
    assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before, strict=True))
    optimizer.land(0.5)
    optimizer.mask_gradients()
    for parameter, gradient in zip(model.parameters(), before, strict=True):
        held = (parameter == 0) if parameter.dim() > 1 else torch.zeros_like(parameter, dtype=bool)
        assert held.any() == (parameter.dim() > 1)
        assert torch.equal(parameter.grad, gradient.masked_fill(held, 0.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("kind", [AdaBreg, LinBreg])
def test_landing_refuses_what_is_not_finite(kind, bad):
    model = _network()
    optimizer = kind(parameter_groups(model), lr=0.05, lambda_rule=QuantileLambda(0.1))
    _train(model, optimizer, 3)
    weight = model[0].weight
    weight.grad = torch.zeros_like(weight)
    weight.grad[0, 0] = bad
    optimizer.step()
    masks = {each: each != 0 for each in (weight, model[2].weight)}
    for land in (lambda: optimizer.land(0.5), lambda: optimizer.land_on(masks)):
        with pytest.raises(NotFiniteError, match=r"1 of the weights .* are NaN or infinite"):
            land()
    assert not optimizer.landed


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


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg])
def test_landing_may_leave_every_layer_a_weight(kind):
    torch.manual_seed(0)
    weights = [nn.Parameter(scale * torch.randn(40, 50)) for scale in (1.0, 1e-3, 1.0)]
    groups = [{"params": weights, "regularizer": L1()}]
    optimizer = kind(groups, lr=0.1, lambda_rule=FixedLambda(0.0))
    largest = weights[1].abs().argmax()
    optimizer.land(0.9, keep_layers=True)
    assert sum(int((weight == 0).sum()) for weight in weights) == 5400
    assert weights[1].flatten().nonzero().tolist() == [[largest]]
    assert 0 < weights[1].abs().max().item() < 1e-6 < weights[0].abs().max().item()
