"""The optimizers beside torch.optim: schedulers, closures, scaling, types, devices."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

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

KINDS = [LinBreg, AdaBreg]


SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 30),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=3),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, 0.02, total_steps=40),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_act_as_on_torch_optimizers(scheduler, network, train):
    first, second = network(), network()
    ours = AdaBreg(parameter_groups(first), lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(second.parameters(), lr=0.01, weight_decay=0.1)
    train(first, ours, 30, scheduler=SCHEDULERS[scheduler](ours))
    train(second, theirs, 30, scheduler=SCHEDULERS[scheduler](theirs))
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [*KINDS, ProxSGD])
def test_closure_is_evaluated_with_gradients_and_returned(kind, network, loss_of):
    model = network()
    optimizer = kind(parameter_groups(model), lr=0.02, lambda_rule=FixedLambda(0.01))

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, 0)
        loss.backward()
        return loss

    before = loss_of(model, 0).item()
    assert optimizer.step(closure).item() == before
    assert loss_of(model, 0).item() != before


@pytest.mark.parametrize("kind", KINDS)
def test_grad_scaler_skips_a_step_with_infinite_gradients(kind, network, loss_of, train, equal):
    model = network(torch.float32)
    twin = copy.deepcopy(model)
    rule = QuantileLambda(0.5, every=1)
    optimizer = kind(parameter_groups(model), lr=0.02, lambda_rule=rule)
    plain = kind(parameter_groups(twin), lr=0.02, lambda_rule=QuantileLambda(0.5, every=1))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        scaler.step(optimizer)
        scaler.update()
    train(twin, plain, 4)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    before, lam = copy.deepcopy(model), optimizer.lam
    optimizer.zero_grad()
    scaler.scale(loss_of(model, 9) * float("inf")).backward()
    scaler.step(optimizer)
    assert equal(model, before)
    assert optimizer.lam == lam


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("landed", [False, True])
def test_bfloat16_weights_gather_small_updates(kind, landed):
    """As a float32 twin's weights rounded: in bfloat16 alone the updates would be lost."""
    weight = nn.Parameter(torch.tensor([1.0, -1.0, 2.0, 0.0]).view(2, 2))
    coarse = nn.Parameter(weight.detach().bfloat16())
    results = []
    for parameter in (weight, coarse):
        group = {"params": [parameter], "regularizer": L1()}
        optimizer = kind([group], lr=1e-4, lambda_rule=FixedLambda(0.25))
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        if landed:
            optimizer.land(0.25)
        for _ in range(400):
            parameter.grad = torch.full_like(parameter, 0.5)
            optimizer.step()
        results.append(parameter.detach().float())
    assert not torch.equal(results[0], torch.tensor([1.0, -1.0, 2.0, 0.0]).view(2, 2))
    torch.testing.assert_close(results[1], results[0].bfloat16().float(), rtol=0.01, atol=1e-3)
    assert coarse.dtype == torch.bfloat16
    assert optimizer.sparsity == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("kind", "options", "gradient"),
    [(LinBreg, {}, 1e-4), (LinBreg, {"momentum": 0.9}, 1e-4), (AdaBreg, {}, 1.0)],
)
def test_updates_that_float16_cannot_hold_are_not_lost(kind, options, gradient):
    """A step of 1e-9 is zero in float16; many of them add up, as Adam's of size τ do."""
    lr = 1e-9 if kind is AdaBreg else 1e-5
    weight = nn.Parameter(torch.full((4,), 1e-5, dtype=torch.float16))
    start = weight.detach().float()
    optimizer = kind([{"params": [weight], "regularizer": L1()}], lr=lr, **options)
    for _ in range(500):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    moved = start - optimizer.state[weight]["dual"]
    torch.testing.assert_close(moved, torch.full((4,), 5e-7), rtol=0.02, atol=0)


def test_compiled_model_trains_as_the_plain_one(network):
    plain, other = network(), network()
    compiled = torch.compile(other, backend="aot_eager")
    for model, forward in ((plain, plain), (other, compiled)):
        optimizer = LinBreg(parameter_groups(forward), lr=0.02, lambda_rule=QuantileLambda(0.5))
        for step in range(3):
            optimizer.zero_grad()
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(16, 12, generator=generator, dtype=torch.float64)
            (forward(x) - x).square().mean().backward()
            optimizer.step()
        assert (model[0].weight == 0).any()
    for p, q in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_changed_weights_are_noticed_by_autograd(network, loss_of):
    for kind in (torch.optim.SGD, *KINDS):
        model = network()
        optimizer = kind(model.parameters(), lr=0.1)
        loss = loss_of(model, 0)
        loss.backward(retain_graph=True)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (LinBreg, FixedLambda(0.1, every=1)),
        (AdaBreg, QuantileLambda(0.5, every=1, smoothing=0.5)),
        (LinBreg, QuantileLambda(0.5, every=1, ramp=3)),
        (AdaBreg, AdaptiveLambda(0.5, every=1, ramp=3)),
        (LinBreg, AdaptiveLambda(0.5, every=1, warmup=2, damping=0.9)),
    ],
)
def test_no_step_waits_for_the_device(kind, rule, network, monkeypatch):
    """On the device `meta`, which has no numbers: whatever looks at one fails.

    Landing looks once, for numbers that are not finite.
    """
    monkeypatch.setattr(kind, "_check_finite", lambda _: None)
    model = network().to("meta")
    optimizer = kind(parameter_groups(model), lr=0.1, lambda_rule=rule)
    for _ in range(4):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    optimizer.land(0.5)
    optimizer.step()
    with pytest.raises(RuntimeError, match="meta"):
        float(optimizer.lam)


@pytest.mark.skipif(torch.__version__ < (2, 12), reason="torch 2.11 cannot trace such an optimizer")
def test_a_compiled_training_step_is_that_of_the_optimizer():
    def trained(compiled):
        torch.manual_seed(0)
        model = nn.Linear(8, 8)
        rule = QuantileLambda(0.5, every=1)
        optimizer = AdaBreg(parameter_groups(model), lr=0.01, lambda_rule=rule)

        def step():
            model(torch.ones(2, 8)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        step = torch.compile(step, backend="eager") if compiled else step
        for _ in range(2):
            step()
        return model.weight

    torch.testing.assert_close(trained(True), trained(False))
