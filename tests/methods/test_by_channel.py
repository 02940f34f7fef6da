"""Methods that take out whole channels."""

import copy

import pytest
import torch
from torch import nn

from sparsify import SparsifyError, sparsity_table
from sparsify.channels.removal import removal_from
from sparsify.methods.base import Task
from sparsify.methods.registry import build_method, resolve
from sparsify.models.registry import build_model
from sparsify.recipe.recipe import load_recipe
from sparsify.sparsity.prunable import prunable_parameters

BINS, STEPS = 16, 12
NETWORKS = {
    "ecapa-tdnn": {"channels": 16, "aggregation_channels": 24},
    "resnet18": {"channels": 4},
}
METHODS = {"adabreg": {}, "linbreg": {"lr": 0.1}, "gmp": {"every": 2}, "one-shot": {}}


def setup(name, method, target=0.6, costs=None, **options):
    torch.manual_seed(0)
    network = build_model(name, feature_dim=BINS, embedding_dim=8, **NETWORKS[name])
    head = nn.Linear(8, 4)
    options = METHODS[method] | {"group": "output"} | options
    changes = {"method": method, "target_sparsity": target}
    changes |= {f"methods.{method}.{key}": value for key, value in options.items()}
    recipe = load_recipe("quickstart", changes=changes)
    task = Task(network, head, target, (), STEPS, 0, costs=costs or {}, bins=BINS)
    return network, head, build_method(resolve(recipe), task)


def advance(network, head, method, steps):
    network.train()
    for step in steps:
        feats = torch.randn(4, 30, BINS, generator=torch.Generator().manual_seed(step))
        method.optimizer.zero_grad()
        nn.functional.cross_entropy(head(network(feats)), torch.arange(4)).backward()
        method.mask_gradients()
        method.step()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_zero_at_the_end_can_be_taken_out(name, method):
    network, head, trained = setup(name, method)
    advance(network, head, trained, range(STEPS))
    trained.finish()
    assert trained.settled
    assert trained.priced.on_target(0.6, trained.dearest)
    smaller = removal_from(network, BINS, "network", {}).applied(network.eval(), "network")
    left = sum(weight.numel() for weight in prunable_parameters(smaller).values())
    assert left == trained.priced.nonzero
    feats = torch.randn(2, 50, BINS)
    with torch.no_grad():
        torch.testing.assert_close(smaller(feats), network(feats), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["adabreg", "gmp"])
def test_a_resumed_run_ends_with_the_same_network(method):
    network, head, trained = setup("ecapa-tdnn", method)
    advance(network, head, trained, range(STEPS - 2))
    saved = copy.deepcopy([each.state_dict() for each in (network, head, trained)])
    advance(network, head, trained, range(STEPS - 2, STEPS))
    again = setup("ecapa-tdnn", method)
    for each, state in zip(again, saved, strict=True):
        each.load_state_dict(state)
    advance(*again, range(STEPS - 2, STEPS))
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(again[0].state_dict()[name], tensor, rtol=0, atol=0)


def test_the_landing_takes_hardly_anything_that_is_not_zero(monkeypatch):
    monkeypatch.setattr("sparsify.methods.bregman._AIM_EVERY", 1)
    network, head, method = setup("ecapa-tdnn", "adabreg", lr=0.01, every=1, ramp=0.2, landing=1.0)
    advance(network, head, method, range(STEPS - 1))
    groups = method.channels.groups
    before = groups._zero(groups.makers)
    advance(network, head, method, range(STEPS - 1, STEPS))
    assert method.settled
    assert abs(groups.share_of_makers(before) - groups.share_of_makers(method.channels.dead)) < 0.05


def test_a_target_in_multiply_adds_counts_what_goes_with_a_channel():
    network, _, _ = setup("ecapa-tdnn", "gmp")
    costs = dict.fromkeys(prunable_parameters(network), 30) | {"linear.weight": 1}
    network, head, method = setup("ecapa-tdnn", "gmp", costs=costs)
    advance(network, head, method, range(STEPS))
    method.finish()
    weights = prunable_parameters(network)
    left = sum(costs[name] * int(weight.count_nonzero()) for name, weight in weights.items())
    everything = sum(costs[name] * weight.numel() for name, weight in weights.items())
    assert 0.4 * everything - method.dearest < left <= 0.4 * everything + 0.5
    assert sparsity_table(network).emptied == ()


def test_no_layer_loses_its_last_channel():
    _, _, method = setup("ecapa-tdnn", "gmp", 0.5)
    with pytest.raises(SparsifyError, match="whole channels make it"):
        method.channels.choose(0.999)


def test_the_embedding_is_protected_and_gates_do_not_die_alone():
    network, _, method = setup("ecapa-tdnn", "adabreg")
    gates = {f"layer{n}.se_res2block.3.linear2.weight" for n in (2, 3, 4)} | {"pool.linear2.weight"}
    others = prunable_parameters(network).keys() - set(method.channels.makers)
    assert others == gates | {"linear.weight"}


def test_channels_are_compared_among_all_layers():
    with pytest.raises(SparsifyError, match="group 'output' compares all channels"):
        setup("ecapa-tdnn", "gmp", allocation="erk")


def test_a_target_that_whole_channels_cannot_reach_is_refused():
    with pytest.raises(SparsifyError, match="ask for less"):
        setup("resnet18", "gmp", 0.9999)
