"""The state of the optimizers: saved, loaded, copied, moved and changed between steps."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from sparsify import (
    L1,
    AdaBreg,
    AdaptiveLambda,
    LinBreg,
    ProxSGD,
    QuantileLambda,
    parameter_groups,
)
from sparsify.sparsity.schedules import Polynomial

KINDS = [LinBreg, AdaBreg]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("landed", [False, True])
@pytest.mark.parametrize("rule", ["adaptive", "smoothed"])
def test_state_resumes_exactly_in_the_middle_of_schedules(
    kind, landed, rule, tmp_path, network, train, equal
):
    def fresh():
        model = network()
        ramp = Polynomial(0.2, 0.8, 0, 12)
        chosen = {
            "adaptive": AdaptiveLambda(ramp, every=2, warmup=4, damping=0.7),
            "smoothed": QuantileLambda(ramp, every=3, smoothing=0.8),
        }[rule]
        options = {"momentum": 0.9} if kind is LinBreg else {}
        optimizer = kind(parameter_groups(model), lr=0.02, lambda_rule=chosen, **options)
        return model, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 20)

    model, optimizer, scheduler = fresh()
    train(model, optimizer, 9, scheduler=scheduler)
    if landed:
        optimizer.land(0.8)
    everything = [each.state_dict() for each in (model, optimizer, scheduler)]
    torch.save(everything, tmp_path / "state.pt")
    train(model, optimizer, 9, 9, scheduler)
    resumed = fresh()
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    for each, state in zip(resumed, saved, strict=True):
        each.load_state_dict(state)
    assert resumed[1].landed == landed
    train(*resumed[:2], 9, 9, resumed[2])
    assert resumed[1].lam == optimizer.lam
    assert resumed[1].sparsity == optimizer.sparsity
    assert equal(resumed[0], model)
    assert resumed[1].state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_go_on_alike(kind, copied, network, train, equal):
    model = network()
    optimizer = kind(parameter_groups(model), lr=0.02, lambda_rule=AdaptiveLambda(0.7, every=2))
    train(model, optimizer, 5)
    twin, twin_optimizer = copied((model, optimizer))
    train(model, optimizer, 15, 5)
    train(twin, twin_optimizer, 15, 5)
    assert equal(model, twin)
    assert twin_optimizer.lam == optimizer.lam


@pytest.mark.parametrize("fused_", [None, False])
def test_loading_an_earlier_state_goes_back_to_it(fused_, optimizer_of, random_step):
    weight = nn.Parameter(torch.randn(50, generator=torch.Generator().manual_seed(0)))
    optimizer = optimizer_of(weight, AdaBreg, fused=fused_, lambda_rule=QuantileLambda(0.5))
    for seed in range(3):
        random_step(optimizer, weight, seed)
    saved, then = copy.deepcopy(optimizer.state_dict()), weight.detach().clone()
    ends = []
    for _ in range(2):
        optimizer.load_state_dict(copy.deepcopy(saved))
        weight.data.copy_(then)
        for seed in range(3, 6):
            random_step(optimizer, weight, seed)
        ends.append(weight.detach().clone())
        optimizer.land(0.9)
        random_step(optimizer, weight, 7)
    assert torch.equal(*ends)


def test_a_foreign_state_is_refused(network):
    model = network()
    optimizer = AdaBreg(parameter_groups(model), lr=0.02)
    other = torch.optim.AdamW(parameter_groups(model))
    with pytest.raises(ValueError, match="not a state of AdaBreg"):
        optimizer.load_state_dict(other.state_dict())
    for kind in KINDS:
        own = kind(parameter_groups(model), lr=0.02).state_dict()
        if kind is not AdaBreg:
            with pytest.raises(ValueError, match=f"state of {kind.__name__}, not of AdaBreg"):
                optimizer.load_state_dict(own)


SPOILS = {
    "a longer dual": {"dual": torch.zeros(300, 300)},
    "an empty dual": {"dual": torch.zeros(0)},
    "an empty number of steps": {"step": torch.zeros(0)},
    "a number of steps without a value": {"step": torch.zeros((), device="meta")},
    "a mask of one": {"mask": torch.ones(1, dtype=torch.bool)},
    "a mask of floats": {"mask": torch.ones(3, 3)},
    "a moment of whole numbers": {"exp_avg": torch.ones(3, 3, dtype=torch.int64)},
    "no tensor": {"exp_avg_sq": [0.0] * 9},
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_state_that_does_not_fit_its_weight_is_refused(spoil, optimizer_of, random_step):
    """Compiled code would read beyond it."""
    weight = nn.Parameter(torch.ones(3, 3))
    optimizer = optimizer_of(weight, AdaBreg, lambda_rule=QuantileLambda(0.5))
    random_step(optimizer, weight, 0)
    before = copy.deepcopy(optimizer.state_dict())
    saved = copy.deepcopy(before)
    saved["state"][0] |= spoil
    with pytest.raises(ValueError, match=f"'{next(iter(spoil))}' of parameter 0 is no"):
        optimizer.load_state_dict(saved)
    after = optimizer.state_dict()
    assert all(torch.equal(after["state"][0][k], v) for k, v in before["state"][0].items())


@pytest.mark.parametrize("groups", [[], [{"params": [0, 1]}], [{"params": [0]}, {"params": [1]}]])
def test_a_state_of_other_groups_is_refused(groups, optimizer_of):
    optimizer = optimizer_of(nn.Parameter(torch.ones(3)), AdaBreg)
    control = optimizer.state_dict()["param_groups"][0]["control"]
    saved = {"state": {}, "param_groups": [group | {"control": control} for group in groups]}
    with pytest.raises(ValueError, match=r"of other groups|has no groups"):
        optimizer.load_state_dict(saved)


def test_a_state_of_another_rule_changes_nothing(optimizer_of):
    weight = nn.Parameter(torch.ones(3))
    first = optimizer_of(weight, AdaBreg, lambda_rule=QuantileLambda(0.5))
    first.lam = 0.25
    second = optimizer_of(weight, AdaBreg, lambda_rule=AdaptiveLambda(0.5, initial=0.5))
    with pytest.raises(ValueError, match="another λ rule"):
        second.load_state_dict(first.state_dict())
    assert second.lam == 0.5


@pytest.mark.parametrize("kind", [LinBreg, AdaBreg, ProxSGD])
def test_what_an_older_state_does_not_know_is_as_the_optimizer_was_made(kind, optimizer_of):
    optimizer = optimizer_of(nn.Parameter(torch.ones(3)), kind, weight_decay=0.25)
    saved = optimizer.state_dict()
    for name in saved["param_groups"][0].keys() - {"params", "control", "lr"}:
        del saved["param_groups"][0][name]
    saved["param_groups"][0]["lr"] = 0.03
    optimizer.load_state_dict(saved)
    group = optimizer.param_groups[0]
    assert isinstance(group["regularizer"], L1)
    expected = optimizer.defaults | {"regularizer": group["regularizer"], "lr": 0.03}
    assert {name: group[name] for name in expected} == expected


@pytest.mark.parametrize("kind", KINDS)
def test_state_moves_to_the_device_of_the_weights(kind, network, train):
    """Saved on the CPU and loaded elsewhere; on the device `meta`, which has no numbers."""
    model = network(torch.float32)
    options = {"lr": 0.1, "lambda_rule": QuantileLambda(0.5, every=2)}
    options |= {"momentum": 0.9} if kind is LinBreg else {}
    optimizer = kind(parameter_groups(model), **options)
    train(model, optimizer, 3)
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
def test_state_and_memory_may_change_between_steps(kind, change, landed, optimizer_of, random_step):
    """The C code, which keeps addresses, goes on as the plain code does."""
    results = []
    for fused_ in (None, False):
        weight = nn.Parameter(torch.randn(30, 20, generator=torch.Generator().manual_seed(0)))
        rule = QuantileLambda(0.5, every=2)
        optimizer = optimizer_of(weight, kind, fused=fused_, lambda_rule=rule)
        for seed in range(8):
            if seed == 3 and landed:
                optimizer.land(0.6)
            if seed in (4, 6):
                change(optimizer, weight)
            random_step(optimizer, weight, seed)
        results.append(weight.detach().double())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
