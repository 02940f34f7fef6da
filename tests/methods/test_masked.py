"""Methods with masks: zeros that stay, whatever the optimizer remembers; RigL's books; rounds."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from sparsify import sparsity_table
from sparsify.errors import SparsifyError
from sparsify.methods.base import Task
from sparsify.methods.registry import build_method, resolve
from sparsify.recipe.recipe import load_recipe
from sparsify.sparsity.allocation import layer_counts
from sparsify.sparsity.masks import initialise_sparse
from sparsify.sparsity.prunable import prunable_parameters

STEPS = 60
MASKED = ["gmp", "one-shot", "rigl", "prox-sgd", "prescribed-l1", "rewa", "granet", "acdc"]
MASKED += ["str", "snip"]


def _network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(3, 12, 5), nn.BatchNorm1d(12), nn.ReLU(), nn.Flatten(), nn.Linear(48, 10)
    )


def _setup(name, options=None, target=0.8, network=None, **task):
    network = network or _network()
    changes = {"method": name, **{f"methods.{name}.{k}": v for k, v in (options or {}).items()}}
    recipe = load_recipe("quickstart", changes=changes)
    torch.manual_seed(1)
    head = nn.Linear(10, 4)
    method = build_method(resolve(recipe), Task(network, head, target, (), STEPS, 0, **task))
    return network, head, method


def _run(network, head, method, first=0, last=STEPS):
    for step in range(first, last):
        x = torch.randn(32, 3, 8, generator=torch.Generator().manual_seed(step))
        method.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(network(x)), x[:, 0, :4].argmax(1))
        loss.backward()
        method.mask_gradients()
        method.step()


def _zeros(network):
    return [weight == 0 for weight in prunable_parameters(network).values()]


def _sparse_network(sparsity):
    network = _network()
    initialise_sparse(list(prunable_parameters(network).values()), sparsity, seed=3)
    return network


@pytest.mark.parametrize("name", ["prox-sgd", "prescribed-l1", "rewa", "str"])
def test_what_gets_no_gradient_is_revived_too(name):
    """Units that hear nothing and are not heard: their weights are needed to meet the target."""
    network, head, method = _setup(name, target=0.2)
    _run(network, head, method, 0, 44)
    with torch.no_grad():
        network[0].weight[6:], network[1].bias[6:] = 0.0, -1.0
        network[4].weight[:, 24:] = 0.0
        for latent, weight in zip(getattr(method, "latents", []), method.weights, strict=False):
            latent[weight == 0] = 0.0
        for weight in method.weights:
            for value in method.optimizer.state[weight].values():
                if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                    value[weight == 0] = 0.0
    if name == "rewa":
        method.optimizer.reset_latents()
    size = sum(weight.numel() for weight in method.weights)
    _run(network, head, method, 44, 45)
    assert method.settled
    for last in (45, STEPS):
        _run(network, head, method, 45, last)
        assert sum(int(zero.sum()) for zero in _zeros(network)) == round(0.2 * size)


@pytest.mark.parametrize("name", MASKED)
def test_settled_zeros_stay_positive_zero_under_momentum_decay_and_averaging(name):
    early = {"weight_decay": 0.1, "end": 0.3, "every": 5}
    options = {"gmp": early, "granet": early, "rigl": {"every": 5}, "acdc": {"final": 0.3}}
    network, head, method = _setup(name, options.get(name))
    _run(network, head, method, 0, 46)
    assert method.settled
    zeros, average = _zeros(network), AveragedModel(network)
    size = sum(zero.numel() for zero in zeros)
    assert sum(int(zero.sum()) for zero in zeros) == round(0.8 * size)
    for step in range(46, STEPS):
        _run(network, head, method, step, step + 1)
        average.update_parameters(network)
    method.finish()
    for trained in (network, average.module):
        for weight, zero in zip(prunable_parameters(trained).values(), zeros, strict=True):
            assert torch.equal(weight == 0, zero)
            assert not torch.signbit(weight[zero]).any()


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("start", [0.0, 0.5, 0.8])
def test_zeros_of_a_sparse_start_are_kept(name, start):
    """From a trained network the target is met, and no zero is lost on the way."""
    network = _sparse_network(start) if start else _network()
    before = sparsity_table(network).sparsity
    zeros = _zeros(network)
    network, head, method = _setup(name, {}, 0.8, network, pretrained=True)
    for step in range(STEPS):
        _run(network, head, method, step, step + 1)
        assert sparsity_table(network).sparsity >= before
        for now, was in zip(_zeros(network), zeros, strict=True):
            assert (now >= was).all()
    method.finish()
    assert sparsity_table(network).sparsity == pytest.approx(0.8, abs=0.001)


@pytest.mark.parametrize("name", MASKED)
def test_a_start_beyond_the_target(name):
    network = _sparse_network(0.95)
    if name not in ("prox-sgd", "prescribed-l1"):
        with pytest.raises(SparsifyError, match="revives no weights"):
            _setup(name, {}, 0.8, network, pretrained=True)
        return
    network, head, method = _setup(name, {}, 0.8, network, pretrained=True)
    _run(network, head, method)
    assert sparsity_table(network).sparsity == pytest.approx(0.8, abs=0.001)


def test_one_shot_is_dense_then_pruned_as_torch_prunes():
    network, head, method = _setup("one-shot", {"dense": 0.5})
    _run(network, head, method, 0, 29)
    assert sparsity_table(network).sparsity == 0
    assert not method.settled
    _run(network, head, method, 29, 30)
    masks = [mask.clone() for mask in method.masks]

    reference, head, dense = _setup("dense", {"lr": 2e-3})
    _run(reference, head, dense, 0, 30)
    layers = [(reference[0], "weight"), (reference[4], "weight")]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=0.8)
    for (layer, _), mask in zip(layers, masks, strict=True):
        assert torch.equal(layer.weight_mask.bool(), mask)
    assert torch.equal(network[0].weight, reference[0].weight)


def test_one_shot_prunes_a_trained_network_at_once():
    network, _, method = _setup("one-shot", pretrained=True)
    assert sparsity_table(network).sparsity == pytest.approx(0.8, abs=0.001)
    assert method.sparsity_target(0) == 0.8
    assert (method.rounds, _setup("one-shot")[2].rounds) == (1, 2)


def test_snip_keeps_the_connections_whose_removal_the_loss_feels_most():
    """By the derivative of the loss by a factor of each weight, as the paper defines it."""
    network, head, method = _setup("snip", {"weight_decay": 0.0})
    reference, _, _ = _setup("dense")
    before = {name: p.detach().clone() for name, p in reference.named_parameters()}
    names = list(prunable_parameters(reference))
    factors = {name: torch.ones_like(before[name], requires_grad=True) for name in names}
    x = torch.randn(32, 3, 8, generator=torch.Generator().manual_seed(0))
    masked = before | {name: before[name] * factors[name] for name in names}
    embedded = torch.func.functional_call(reference, masked, x)
    loss = nn.functional.cross_entropy(head(embedded), x[:, 0, :4].argmax(1))
    slopes = torch.autograd.grad(loss, list(factors.values()))
    felt = torch.cat([slope.abs().flatten() for slope in slopes])
    kept = felt >= felt.topk(felt.numel() - round(0.8 * felt.numel())).values[-1]
    _run(network, head, method, 0, 1)
    assert method.settled
    assert torch.equal(torch.cat([mask.flatten() for mask in method.masks]), kept)
    assert torch.equal(torch.cat([zero.flatten() for zero in _zeros(network)]), ~kept)


def test_acdc_takes_turns():
    """Of 60 steps 12 dense ones first, turns of 6, the last 12 compressed.

    Each turn begins with weights that the step before it has pruned, as its gradients are theirs.
    """
    options = {"warmup": 0.2, "phase": 0.1, "final": 0.2, "lr": 0.01}
    network, head, method = _setup("acdc", options)
    wanted = 17 * "d" + 7 * "c" + 5 * "d" + 7 * "c" + 5 * "d" + 7 * "c" + 5 * "d"
    wanted = wanted[-47:] + 13 * "c"  # an even number of turns fits: the first joins the warm-up
    seen, before = "", []
    method.optimizer.register_step_post_hook(
        lambda *_: before.__setitem__(slice(None), [w.detach().clone() for w in method.weights])
    )
    for step in range(STEPS):
        _run(network, head, method, step, step + 1)
        sparsity = sparsity_table(network).sparsity
        seen += "c" if sparsity == pytest.approx(0.8, abs=0.001) else "d"
        if seen.endswith("dc"):
            layers = [(network[0], "weight"), (network[4], "weight")]
            reference = nn.Sequential(nn.Conv1d(3, 12, 5), nn.Linear(48, 10))
            for layer, was in zip(reference, before, strict=True):
                layer.weight.data.copy_(was)
            pairs = [(layer, "weight") for layer in reference]
            prune.global_unstructured(pairs, prune.L1Unstructured, amount=0.8)
            for (layer, _), (own, _) in zip(pairs, layers, strict=True):
                assert torch.equal(own.weight != 0, layer.weight_mask.bool())
        assert method.settled == (step >= 47)
        if seen.endswith("cd"):
            assert all((weight != 0).all() for weight in method.weights)
            state = method.optimizer.state[network[1].bias]
            torch.testing.assert_close(state["exp_avg"], 0.1 * network[1].bias.grad)
    assert seen == wanted


def test_granet_drops_the_smallest_and_grows_where_the_gradient_is_largest():
    options = {"begin": 0.1, "end": 0.6, "every": 10, "regenerated": 0.4}
    network, head, method = _setup("granet", options)
    plain, plain_head, gmp = _setup("gmp", {k: options[k] for k in ("begin", "end", "every")})
    dense = {}
    for weight in method.weights:
        weight.register_hook(lambda gradient, weight=weight: dense.update({weight: gradient}))
    exchanges = 0
    for step in range(1, STEPS + 1):
        for mine, theirs in ((network, plain), (head, plain_head)):
            theirs.load_state_dict(mine.state_dict())
        gmp.load_state_dict(copy.deepcopy(method.state_dict()))
        _run(plain, plain_head, gmp, step - 1, step)
        _run(network, head, method, step - 1, step)
        if step % 10 or not 6 < step <= 36:
            assert all(map(torch.equal, gmp.masks, method.masks))
            continue
        share = 0.2 * (1 + math.cos(math.pi * (step - 6) / 30))
        for own, pruned, weight, theirs in zip(
            method.masks, gmp.masks, method.weights, gmp.weights, strict=True
        ):
            left, dropped = int(pruned.sum()), round(share * int(pruned.sum()))
            assert int(own.sum()) == left
            sizes = theirs[pruned].abs().sort().values
            stays = pruned & (theirs.abs() >= sizes[dropped])
            slopes = torch.where(stays, -1, dense[weight].abs())
            grown = (
                slopes >= slopes.flatten().topk(dropped).values[-1] if dropped else ~stays & False
            )
            assert torch.equal(own, stays | grown)
            exchanges += int((own & ~pruned).sum())
    assert exchanges
    method.finish()
    assert sparsity_table(network).sparsity == pytest.approx(0.8, abs=0.001)


def test_gmp_is_at_its_target_when_the_ramp_ends():
    """Also where the end lies between two regular prunings."""
    setup = _setup("gmp", {"begin": 0.1, "end": 0.55, "every": 20})
    _run(*setup, last=33)
    assert sparsity_table(setup[0]).sparsity == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("allocation", ["uniform", "erk"])
@pytest.mark.parametrize("name", ["gmp", "one-shot", "rigl", "prescribed-l1"])
def test_layers_get_their_shares(name, allocation):
    network, head, method = _setup(name, {"allocation": allocation})
    _run(network, head, method)
    method.finish()
    weights = list(prunable_parameters(network).values())
    shapes, size = [w.shape for w in weights], sum(w.numel() for w in weights)
    counts = layer_counts(shapes, size - round(0.8 * size), allocation)
    assert [int(weight.count_nonzero()) for weight in weights] == counts


def test_rigl_moves_connections_to_large_gradients_and_keeps_their_number():
    network, head, method = _setup("rigl", {"every": 10, "moved": 0.4, "end": 0.5})
    weights = list(prunable_parameters(network).values())
    counts = [int(mask.sum()) for mask in method.masks]
    dense = {}
    for weight in weights:
        weight.register_hook(lambda gradient, weight=weight: dense.update({weight: gradient}))
    for step in range(STEPS):
        before = [mask.clone() for mask in method.masks]
        values = [weight.detach().clone() for weight in weights]
        _run(network, head, method, step, step + 1)
        assert [int(mask.sum()) for mask in method.masks] == counts
        if step % 10 or not 0 < step < 30:
            assert all(map(torch.equal, before, method.masks))
            continue
        share = 0.2 * (1 + torch.cos(torch.tensor(torch.pi * step / 30)).item())
        for weight, value, was, mask in zip(weights, values, before, method.masks, strict=True):
            moved = round(share * int(was.sum()))
            gone, grown = was & ~mask, mask & ~was
            assert 0 < int(gone.sum()) == int(grown.sum()) <= moved
            # Gone are weights among the smallest, grown are gradients among the largest.
            smallest = value[was].abs().sort().values[:moved]
            assert value[gone].abs().max() <= smallest.max()
            assert dense[weight][grown].abs().min() >= dense[weight][~mask].abs().max()
            assert not weight[grown].any()
            assert torch.equal(weight[mask & was], value[mask & was])
            for moment in ("exp_avg", "exp_avg_sq"):
                assert not method.optimizer.state[weight][moment][~mask | grown].any()


def test_rigl_starts_from_erk_at_random_by_seed():
    first, again = _setup("rigl")[2].masks, _setup("rigl")[2].masks
    assert all(map(torch.equal, first, again))
    shapes = [mask.shape for mask in first]
    size = sum(mask.numel() for mask in first)
    counts = layer_counts(shapes, size - round(0.8 * size), "erk")
    assert [int(mask.sum()) for mask in first] == counts


@settings(max_examples=25)
@given(
    allocation=st.sampled_from(["global", "uniform", "erk"]),
    sparsities=st.lists(st.floats(0, 1), min_size=1, max_size=4).map(sorted),
    start=st.sampled_from([0.0, 0.3]),
)
def test_pruning_is_exact_and_only_takes_away(allocation, sparsities, start):
    network = _sparse_network(start) if start else _network()
    _, _, method = _setup("gmp", {"allocation": allocation}, 0.99, network, pretrained=True)
    for sparsity in sparsities:
        before = [mask.clone() for mask in method.masks]
        pruned = sum(int((~mask).sum()) for mask in before)
        wanted = round(sparsity * method.size)
        if wanted < pruned:
            continue
        method._prune(sparsity, allocation)
        assert sum(int((weight == 0).sum()) for weight in method.weights) == wanted
        assert all(
            map(torch.equal, before, [b | m for b, m in zip(before, method.masks, strict=True)])
        )
