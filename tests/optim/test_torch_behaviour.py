"""The optimizers beside torch.optim: schedulers, closures, scaling, types, copies, refusals."""

import copy
import logging
import pickle

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
from sparsify.optim import fused
from sparsify.sparsity.schedules import Polynomial

KINDS = [LinBreg, AdaBreg]


def _network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 12)).to(dtype)


def _loss(model, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(16, 12, generator=generator, dtype=torch.float64).to(model[0].weight.dtype)
    return (model(x) - x.roll(1, 1)).square().mean()


def _train(model, optimizer, steps, first=0, scheduler=None):
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss = _loss(model, step)
        loss.backward()
        optimizer.step()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(1.0)
        elif scheduler is not None:
            scheduler.step()


def _equal(first, second):
    return all(
        torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True)
    )


SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 30),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=3),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, 0.02, total_steps=40),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_act_as_on_torch_optimizers(scheduler):
    first, second = _network(), _network()
    ours = AdaBreg(parameter_groups(first), lr=0.01, weight_decay=0.1)
    theirs = torch.optim.AdamW(second.parameters(), lr=0.01, weight_decay=0.1)
    _train(first, ours, 30, scheduler=SCHEDULERS[scheduler](ours))
    _train(second, theirs, 30, scheduler=SCHEDULERS[scheduler](theirs))
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("rule", ["adaptive", "smoothed"])
def test_state_resumes_exactly_in_the_middle_of_schedules(kind, landed, rule, tmp_path):
    def fresh():
        model = _network()
        ramp = Polynomial(0.2, 0.8, 0, 12)
        chosen = {
            "adaptive": AdaptiveLambda(ramp, every=2, warmup=4, damping=0.7),
            "smoothed": QuantileLambda(ramp, every=3, smoothing=0.8),
        }[rule]
        options = {"momentum": 0.9} if kind is LinBreg else {}
        optimizer = kind(parameter_groups(model), lr=0.02, lambda_rule=chosen, **options)
        return model, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 20)

    model, optimizer, scheduler = fresh()
    _train(model, optimizer, 9, scheduler=scheduler)
    if landed:
        optimizer.land(0.8)
    everything = [each.state_dict() for each in (model, optimizer, scheduler)]
    torch.save(everything, tmp_path / "state.pt")
    _train(model, optimizer, 9, 9, scheduler)
    resumed = fresh()
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    for each, state in zip(resumed, saved, strict=True):
        each.load_state_dict(state)
    assert resumed[1].landed == landed
    _train(*resumed[:2], 9, 9, resumed[2])
    assert resumed[1].lam == optimizer.lam
    assert resumed[1].sparsity == optimizer.sparsity
    assert _equal(resumed[0], model)
    assert resumed[1].state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_go_on_alike(kind, copied):
    model = _network()
    optimizer = kind(parameter_groups(model), lr=0.02, lambda_rule=AdaptiveLambda(0.7, every=2))
    _train(model, optimizer, 5)
    twin, twin_optimizer = copied((model, optimizer))
    _train(model, optimizer, 15, 5)
    _train(twin, twin_optimizer, 15, 5)
    assert _equal(model, twin)
    assert twin_optimizer.lam == optimizer.lam


def test_a_foreign_state_is_refused():
    model = _network()
    optimizer = AdaBreg(parameter_groups(model), lr=0.02)
    other = torch.optim.AdamW(parameter_groups(model))
    with pytest.raises(ValueError, match="not a state of AdaBreg"):
        optimizer.load_state_dict(other.state_dict())


@pytest.mark.parametrize("kind", [*KINDS, ProxSGD])
def test_closure_is_evaluated_with_gradients_and_returned(kind):
    model = _network()
    optimizer = kind(parameter_groups(model), lr=0.02, lambda_rule=FixedLambda(0.01))

    def closure():
        optimizer.zero_grad()
        loss = _loss(model, 0)
        loss.backward()
        return loss

    before = _loss(model, 0).item()
    assert optimizer.step(closure).item() == before
    assert _loss(model, 0).item() != before


@pytest.mark.parametrize("kind", KINDS)
def test_grad_scaler_skips_a_step_with_infinite_gradients(kind):
    model = _network(torch.float32)
    twin = copy.deepcopy(model)
    rule = QuantileLambda(0.5, every=1)
    optimizer = kind(parameter_groups(model), lr=0.02, lambda_rule=rule)
    plain = kind(parameter_groups(twin), lr=0.02, lambda_rule=QuantileLambda(0.5, every=1))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(_loss(model, step)).backward()
        scaler.step(optimizer)
        scaler.update()
    _train(twin, plain, 4)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    before, lam = copy.deepcopy(model), optimizer.lam
    optimizer.zero_grad()
    scaler.scale(_loss(model, 9) * float("inf")).backward()
    scaler.step(optimizer)
    assert _equal(model, before)
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


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_model_trains_as_the_plain_one(kind):
    plain, other = _network(), _network()
    compiled = torch.compile(other, backend="aot_eager")
    for model, forward in ((plain, plain), (other, compiled)):
        optimizer = kind(parameter_groups(forward), lr=0.02, lambda_rule=QuantileLambda(0.5))
        for step in range(3):
            optimizer.zero_grad()
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(16, 12, generator=generator, dtype=torch.float64)
            (forward(x) - x).square().mean().backward()
            optimizer.step()
        assert (model[0].weight == 0).any()
    for p, q in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("kind", [*KINDS, ProxSGD])
def test_sparse_gradients_and_complex_parameters_are_refused(kind):
    embedding = nn.Embedding(10, 4, sparse=True)
    optimizer = kind(embedding.parameters(), lr=0.1)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse gradients"):
        optimizer.step()
    with pytest.raises(ValueError, match="complex"):
        kind([nn.Parameter(torch.zeros(3, dtype=torch.complex64))], lr=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_weights_are_neither_moved_nor_counted(kind):
    model = _network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = kind(parameter_groups(model), lr=0.05, lambda_rule=QuantileLambda(0.5, every=1))
    _train(model, optimizer, 3)
    assert optimizer.sparsity == pytest.approx(0.5, abs=0.01)
    assert (model[2].weight == 0).double().mean().item() == optimizer.sparsity
    optimizer.land(0.75)
    assert (model[2].weight == 0).double().mean().item() == 0.75
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_may_be_added_and_parameters_named(kind):
    model = _network()
    rule = QuantileLambda(0.5, every=1)
    optimizer = kind(list(model[0].named_parameters()), lr=0.05, lambda_rule=rule)
    group = {"params": [("weight2", model[2].weight)], "regularizer": L1(), "lr": 0.02}
    optimizer.add_param_group(group)
    _train(model, optimizer, 3)
    assert (model[2].weight == 0).double().mean().item() == pytest.approx(0.5, abs=0.01)
    assert not (model[0].weight == 0).any()
    names = [group["param_names"] for group in optimizer.state_dict()["param_groups"]]
    assert names == [["weight", "bias"], ["weight2"]]


def test_changed_weights_are_noticed_by_autograd():
    for kind in (torch.optim.SGD, *KINDS):
        model = _network()
        optimizer = kind(model.parameters(), lr=0.1)
        loss = _loss(model, 0)
        loss.backward(retain_graph=True)
        optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    "rule",
    [
        FixedLambda(0.1, every=1),
        QuantileLambda(0.5, every=1, smoothing=0.5),
        AdaptiveLambda(0.5, every=1, warmup=2, damping=0.9),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_no_step_waits_for_the_device(kind, foreach, rule):
    """On the device `meta`, which has no numbers: whatever looks at one fails."""
    model = _network().to("meta")
    optimizer = kind(parameter_groups(model), lr=0.1, lambda_rule=rule, foreach=foreach)
    for _ in range(4):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    optimizer.land(0.5)
    optimizer.step()
    with pytest.raises(RuntimeError, match="meta"):
        float(optimizer.lam)


@pytest.mark.parametrize("kind", KINDS)
def test_state_moves_to_the_device_of_the_weights(kind):
    """Saved on the CPU and loaded elsewhere; on the device `meta`, which has no numbers."""
    model = _network(torch.float32)
    options = {"lr": 0.1, "lambda_rule": QuantileLambda(0.5, every=2)}
    options |= {"momentum": 0.9} if kind is LinBreg else {}
    optimizer = kind(parameter_groups(model), **options)
    _train(model, optimizer, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    model.to("meta")
    elsewhere = kind(parameter_groups(model), **options)
    elsewhere.load_state_dict(saved)
    for state in elsewhere.state.values():
        for name, value in state.items():
            assert value.device.type == ("cpu" if name == "step" else "meta")
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    elsewhere.step()
    assert elsewhere._lam.device.type == "meta"


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    ("kind", "options", "gradient"),
    [(LinBreg, {}, 1e-4), (LinBreg, {"momentum": 0.9}, 1e-4), (AdaBreg, {}, 1.0)],
)
def test_updates_that_float16_cannot_hold_are_not_lost(kind, options, gradient, foreach):
    """A step of 1e-9 is zero in float16; many of them add up, as Adam's of size τ do."""
    lr = 1e-9 if kind is AdaBreg else 1e-5
    weight = nn.Parameter(torch.full((4,), 1e-5, dtype=torch.float16))
    start = weight.detach().float()
    optimizer = kind([{"params": [weight], "regularizer": L1()}], lr=lr, foreach=foreach, **options)
    for _ in range(2000):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
    moved = start - optimizer.state[weight]["dual"]
    torch.testing.assert_close(moved, torch.full((4,), 2e-6), rtol=0.02, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_weights_are_stepped_by_the_c_code(kind, caplog):
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 2)).to(memory_format=layout)
        rule = QuantileLambda(0.6, every=2)
        optimizer = kind(parameter_groups(model), lr=0.01, lambda_rule=rule, fused=True)
        for step in range(6):
            optimizer.zero_grad()
            model(torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)).square().mean().backward()
            optimizer.step()
            if step == 3:
                optimizer.land(0.7)
        results.append([p.detach() for p in model.parameters()])
        assert results[-1][0].is_contiguous(memory_format=layout)
    for plain, permuted in zip(*results, strict=True):
        torch.testing.assert_close(permuted, plain, rtol=1e-4, atol=1e-6)


def test_a_layout_that_the_c_code_cannot_step_is_logged(caplog):
    fused._log_slow.cache_clear()
    weight = nn.Parameter(torch.ones(6, 4).t())
    optimizer = _optimizer_of(weight)
    with caplog.at_level(logging.WARNING):
        _step(optimizer, weight, 0)
        _step(optimizer, weight, 1)
    assert caplog.text.count("transposed") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_weights_too_many_for_the_caches_are_written_alike(kind):
    """Also where tensors start or end in the middle of what is written at once."""
    results = []
    for fused_ in (True, False):
        generator = torch.Generator().manual_seed(0)
        flat = torch.randn(4_400_017, generator=generator)
        weights = [nn.Parameter(flat[:4_300_000]), nn.Parameter(flat[4_300_001:].view(-1, 1))]
        weights.append(nn.Parameter(torch.randn(300, generator=generator)))
        rule = QuantileLambda(0.8, every=2)
        optimizer = _optimizer_of(weights, kind, fused=fused_, lambda_rule=rule)
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
        results.append([*(weight.detach() for weight in weights), optimizer.measure_sparsity()])
    for ours, other in zip(*results, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-6)


def test_without_a_compiler_the_steps_are_plain_and_the_log_says_so(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fused._library.cache_clear()
    try:
        model, plain = _network(), _network()
        with caplog.at_level(logging.WARNING):
            _train(model, AdaBreg(parameter_groups(model), lr=0.1), 2)
        assert caplog.text.count("no-such-compiler") == 1
        _train(plain, AdaBreg(parameter_groups(plain), lr=0.1, fused=False), 2)
        assert _equal(model, plain)
        with pytest.raises(RuntimeError, match="C compiler"):
            _train(model, AdaBreg(parameter_groups(model), lr=0.1, fused=True), 1)
    finally:
        fused._library.cache_clear()


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
        (LinBreg, {"foreach": True, "fused": True}, "exclude"),
        (LinBreg, {"lambda_change": "never"}, "keep_dual, keep_weights, rescale"),
        (LinBreg, {"lambda_change": "rescale"}, "initial"),
        (ProxSGD, {"lambda_rule": QuantileLambda(0.5)}, "no dual"),
    ],
)
def test_bad_hyperparameters_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(parameter_groups(_network()), **options)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"regularizer": "l1"}, "Regularizer"),
        ({"regularizer": L1(), "lambda_scale": 0.0}, "lambda_scale"),
        ({"lr": -1.0}, "lr"),
    ],
)
def test_bad_groups_are_refused_and_not_kept(group, message):
    model = _network()
    optimizer = LinBreg(model[0].parameters(), lr=0.1)
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": model[2].parameters(), **group})
    optimizer.add_param_group({"params": model[2].parameters()})
    with pytest.raises(ValueError, match="negative"):
        optimizer.lam = -1.0


def _optimizer_of(weight, kind=LinBreg, **options):
    rule = options.pop("lambda_rule", None) or FixedLambda(0.1)
    return kind([{"params": weight, "regularizer": L1()}], lr=0.1, lambda_rule=rule, **options)


def _step(optimizer, weight, seed):
    generator = torch.Generator().manual_seed(seed)
    weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
    optimizer.step()


def _swap_state(optimizer, weight):
    for name, value in optimizer.state[weight].items():
        optimizer.state[weight][name] = value.clone()


def _move_state(optimizer, weight):
    for value in optimizer.state[weight].values():
        value.data = value.data.clone()


def _load(optimizer, weight):
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def _to_double(optimizer, weight):
    weight.data = weight.data.double()
    weight.grad = None
    for name, value in optimizer.state[weight].items():
        if value.is_floating_point() and name != "step":
            optimizer.state[weight][name] = value.double()


def _reorder(optimizer, weight):
    weight.data = weight.data.t().contiguous().t()


def _reset(optimizer, weight):
    optimizer.reset_duals()


CHANGES = [_swap_state, _move_state, _load, _to_double, _reorder, _reset]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("landed", [False, True])
def test_state_and_memory_may_change_between_steps(kind, change, landed):
    """The C code, which keeps addresses, goes on as the plain code does."""
    results = []
    for fused_ in (None, False):
        weight = nn.Parameter(torch.randn(30, 20, generator=torch.Generator().manual_seed(0)))
        rule = QuantileLambda(0.5, every=2)
        optimizer = _optimizer_of(weight, kind, fused=fused_, lambda_rule=rule)
        for seed in range(8):
            if seed == 3 and landed:
                optimizer.land(0.6)
            if seed in (4, 6):
                change(optimizer, weight)
            _step(optimizer, weight, seed)
        results.append(weight.detach().double())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fused_", [None, False])
def test_loading_an_earlier_state_goes_back_to_it(fused_):
    weight = nn.Parameter(torch.randn(50, generator=torch.Generator().manual_seed(0)))
    optimizer = _optimizer_of(weight, AdaBreg, fused=fused_, lambda_rule=QuantileLambda(0.5))
    for seed in range(3):
        _step(optimizer, weight, seed)
    saved, then = copy.deepcopy(optimizer.state_dict()), weight.detach().clone()
    ends = []
    for _ in range(2):
        optimizer.load_state_dict(copy.deepcopy(saved))
        weight.data.copy_(then)
        for seed in range(3, 6):
            _step(optimizer, weight, seed)
        ends.append(weight.detach().clone())
        optimizer.land(0.9)
        _step(optimizer, weight, 7)
    assert torch.equal(*ends)


@pytest.mark.parametrize("fused_", [None, False])
def test_momentum_and_regularizer_may_come_and_go(fused_):
    weight = nn.Parameter(torch.randn(50, generator=torch.Generator().manual_seed(0)))
    optimizer = _optimizer_of(weight, fused=fused_)
    group = optimizer.param_groups[0]
    for momentum in (0.0, 0.9, 0.9, 0.0):
        group["momentum"] = momentum
        _step(optimizer, weight, 0)
    before = weight.detach().clone()
    group["regularizer"] = None
    _step(optimizer, weight, 1)
    torch.testing.assert_close(weight, before - 0.1 * weight.grad)


def test_odd_gradients_are_read_as_what_they_are():
    for make in (lambda g: g.half(), lambda g: torch._neg_view(-g), lambda g: g[0].expand(30, 20)):
        results = []
        for fused_ in (None, False):
            weight = nn.Parameter(torch.ones(30, 20))
            weight.grad_dtype = None
            optimizer = _optimizer_of(weight, fused=fused_)
            gradient = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
            weight.grad = make(gradient)
            optimizer.step()
            results.append(weight.detach().clone())
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)


def test_nothing_to_steer():
    weight = nn.Parameter(torch.randn(50))
    free = LinBreg([weight], lr=0.1, lambda_rule=AdaptiveLambda(0.5, every=1, initial=0.1))
    _step(free, weight, 0)
    assert free.sparsity == 1  # of no weights
    steered = LinBreg([weight], lr=0.1, lambda_rule=QuantileLambda(0.5))
    with pytest.raises(ValueError, match="regularizer"):
        _step(steered, weight, 0)


def test_a_landed_optimizer_holds_its_support():
    weight, frozen = nn.Parameter(torch.randn(60)), nn.Parameter(torch.randn(40))
    group = {"params": [weight, frozen], "regularizer": L1()}
    optimizer = LinBreg([group], lr=0.1, lambda_rule=QuantileLambda(0.5))
    frozen.requires_grad_(False)
    frozen.grad = torch.ones(40)
    before = frozen.detach().clone()
    _step(optimizer, weight, 0)
    assert torch.equal(frozen, before)  # though it has a gradient
    optimizer.land(0.5)
    with pytest.raises(RuntimeError, match="landed"):
        optimizer.lambda_for(0.5)
    frozen.requires_grad_(True)
    weight.data.fill_(3.0)
    optimizer.reset_duals()
    for seed in range(5):
        _step(optimizer, weight, seed)
    assert int((weight == 0).sum()) == 30
    assert not (frozen == 0).any()


@pytest.mark.parametrize("fused_", [None, False])
def test_lambda_scale_does_not_cost_a_zero_where_all_are_equal(fused_):
    weight = nn.Parameter(torch.zeros(100))
    group = {"params": [weight], "regularizer": L1(), "lambda_scale": 3.0}
    optimizer = AdaBreg([group], lr=0.1, lambda_rule=QuantileLambda(0.9), fused=fused_)
    weight.grad = torch.ones(100)
    optimizer.step()
    assert optimizer.sparsity >= 0.9
    assert (weight == 0).double().mean() == optimizer.sparsity


def test_damaged_code_is_compiled_again_and_no_home_is_needed(monkeypatch, tmp_path):
    if not fused.fits(torch.zeros(1)):
        pytest.skip("needs a C compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caches = (fused._library, fused._cache)
    try:
        for damaged in (False, True):
            for cache in caches:
                cache.cache_clear()
            if damaged:
                library = next(tmp_path.glob("sparsify/*.so"))
                library.unlink()  # the file itself is in use
                library.write_bytes(b"\x7fELF damaged")
            assert fused._library(torch.float32) is not None
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        for cache in caches:
            cache.cache_clear()
        assert fused._library(torch.float32) is not None
    finally:
        for cache in caches:
            cache.cache_clear()
