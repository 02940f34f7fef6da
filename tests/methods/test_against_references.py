"""Methods with their options against what those say, written down a second time."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim import AdamW

from sparsify import sparsity_table
from sparsify.methods.base import Task
from sparsify.methods.registry import build_method, resolve
from sparsify.optim.rewa import ReWAAdamW
from sparsify.recipe.recipe import load_recipe
from sparsify.sparsity.prunable import prunable_parameters

STEPS = 60


def _setup(name, target=0.8, steps=STEPS, **options):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 12))
    head = nn.Linear(12, 5)
    changes = {"method": name, "target_sparsity": target, f"methods.{name}": options}
    recipe = load_recipe("quickstart", changes=changes)
    return network, head, build_method(resolve(recipe), Task(network, head, target, (), steps, 0))


def _backward(network, head, step):
    x = torch.randn(32, 12, generator=torch.Generator().manual_seed(step))
    network.zero_grad()
    head.zero_grad()
    nn.functional.cross_entropy(head(network(x)), x[:, :5].argmax(dim=1)).backward()


def _train(network, head, method, first=0, last=STEPS):
    for step in range(first, last):
        _backward(network, head, step)
        method.mask_gradients()
        method.step()


def _by_kind(network, head):
    """The prunable weights, other matrices, and biases and batch norm."""
    prunable = list(prunable_parameters(network).values())
    others = [p for p in network.parameters() if all(p is not w for w in prunable)]
    others += head.parameters()
    return prunable, [p for p in others if p.dim() > 1], [p for p in others if p.dim() == 1]


def _same(network, reference):
    for own, other in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-6)


def test_rewa_has_powers_on_prunable_weights_alone():
    options = {"lr": 0.01, "weight_decay": 0.3, "latent_lr": 0.02, "latent_decay": 0.2}
    shape = {"power": 3.0, "gradient_power": 2.0, "smoothing": 0.1}
    network, head, method = _setup("rewa", **options, **shape, landing=1.0)
    twin, twin_head, _ = _setup("rewa")
    prunable, matrices, vectors = _by_kind(twin, twin_head)
    roots = ReWAAdamW(prunable, lr=0.02, weight_decay=0.2, **shape)
    plain = AdamW(
        [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], lr=0.01, weight_decay=0.3
    )
    _train(network, head, method, 0, STEPS - 1)
    for step in range(STEPS - 1):
        _backward(twin, twin_head, step)
        roots.step()
        plain.step()
    _same(network, twin)
    _same(head, twin_head)


class _SoftThreshold(nn.Module):
    """The definition of STR, of which autograd makes the gradients."""

    def __init__(self, start):
        super().__init__()
        self.s = nn.Parameter(torch.tensor(start))

    def forward(self, y):
        return y.sign() * (y.abs() - self.s.sigmoid()).relu()


def test_str_learns_its_thresholds_as_autograd_says():
    options = {"lr": 0.01, "weight_decay": 0.3, "threshold": -4.0, "landing": 1.0}
    learnt = {"threshold_lr": 0.05, "threshold_decay": 0.5}
    network, head, method = _setup("str", **options, **learnt)
    twin, twin_head, _ = _setup("dense")
    prunable, matrices, vectors = _by_kind(twin, twin_head)
    assert len(prunable) == 2
    soft = [_SoftThreshold(-4.0) for _ in prunable]
    for layer, each in zip((twin[0], twin[3]), soft, strict=True):
        parametrize.register_parametrization(layer, "weight", each, unsafe=True)
    latents = [layer.parametrizations.weight.original for layer in (twin[0], twin[3])]
    plain = AdamW(
        [
            {"params": [*latents, *matrices]},
            {"params": vectors, "weight_decay": 0.0},
            {"params": [each.s for each in soft], "lr": 0.05, "weight_decay": 0.5},
        ],
        lr=0.01,
        weight_decay=0.3,
    )
    _train(network, head, method, 0, STEPS - 1)
    for step in range(STEPS - 1):
        _backward(twin, twin_head, step)
        plain.step()
    for layer, own in zip((twin[0], twin[3]), (network[0], network[3]), strict=True):
        torch.testing.assert_close(own.weight, layer.weight, rtol=0, atol=1e-6)
    for each, threshold in zip(soft, method.thresholds, strict=True):
        torch.testing.assert_close(threshold, each.s, rtol=0, atol=1e-6)
    _same(head, twin_head)
    assert 0.3 < sparsity_table(network).sparsity < 0.9
    _backward(network, head, STEPS - 2)
    method.mask_gradients()  # what is clipped is the gradient by the latent weights
    _backward(twin, twin_head, STEPS - 2)
    for own, latent in zip((network[0], network[3]), latents, strict=True):
        torch.testing.assert_close(own.weight.grad, latent.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "gmp", "one-shot", "rigl"])
def test_decay_spares_biases_and_batch_norm(name):
    """Where there is no gradient, decay alone moves."""
    network, head, method = _setup(name, lr=0.1, weight_decay=0.5)
    nn.init.uniform_(network[0].bias)
    for parameter in (*network.parameters(), *head.parameters()):
        parameter.grad = torch.zeros_like(parameter)
    prunable, matrices, vectors = _by_kind(network, head)
    before = [p.detach().clone() for p in (*prunable, *matrices, *vectors)]
    method.step()
    decayed = len(prunable) + len(matrices)
    for place, (now, was) in enumerate(zip((*prunable, *matrices, *vectors), before, strict=True)):
        torch.testing.assert_close(now.detach(), was * (0.95 if place < decayed else 1.0))


def test_gmp_follows_its_cubic_schedule():
    network, head, method = _setup("gmp", begin=0.2, end=0.7, every=3)
    size, wanted = method.size, 0.0
    for step in range(1, STEPS + 1):
        _train(network, head, method, step - 1, step)
        if step % 3 == 0:  # (t − 12) / 30 of the way, which is cubic
            way = min(max((step - 12) / 30, 0), 1)
            wanted = 0.8 * (1 - (1 - way) ** 3)
        zeros = sum(int((weight == 0).sum()) for weight in method.weights)
        assert zeros == pytest.approx(wanted * size, abs=1)


def test_prox_sgd_is_steered_along_its_ramp():
    network, head, method = _setup("prox-sgd", steps=600, lr=0.3, ramp=0.5, every=2, landing=1.0)
    gaps = []
    for step in range(599):
        _train(network, head, method, step, step + 1)
        gaps.append(abs(sparsity_table(network).sparsity - 0.8 * min((step + 1) / 300, 1)))
    assert not method.settled
    assert max(gaps[150:300]) < 0.15
    assert max(gaps[450:]) < 0.05


@pytest.mark.parametrize("target", [0.3, 0.8])
def test_rewa_meets_a_target_below_what_has_vanished(target):
    """A long training may take all that the loss does not need, for good."""
    network, head, method = _setup("rewa", target, landing=0.75)
    _train(network, head, method, 0, 40)
    with torch.no_grad():
        for weight in method.weights:
            gone = weight.abs() < weight.abs().quantile(0.9)
            weight[gone] = 0.0
            method.optimizer.state[weight]["exp_avg"][gone] = 0.0
    method.optimizer.reset_latents()
    _train(network, head, method, 40, 44)
    assert sparsity_table(network).sparsity == pytest.approx(0.9, abs=0.01)
    vanished = [weight == 0 for weight in method.weights]
    _train(network, head, method, 44, 45)
    for weight, gone in zip(method.weights, vanished, strict=True):
        back = gone & (weight != 0)
        assert torch.equal(weight[back].sign(), -weight.grad[back].sign())
    zeros = [weight == 0 for weight in method.weights]
    assert sum(int(zero.sum()) for zero in zeros) == round(target * method.size)
    revived = [weight.detach().clone() for weight in method.weights]
    _train(network, head, method, 45, STEPS)
    for weight, zero, was in zip(method.weights, zeros, revived, strict=True):
        assert torch.equal(weight == 0, zero)
        assert (weight != was)[~zero].all()  # all that is alive learns
