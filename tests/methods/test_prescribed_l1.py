"""Prescribed ℓ1 as a method: on lasso its λ and its support are those of scikit-learn."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn

from sparsify.methods.base import Task
from sparsify.methods.registry import build_method, resolve
from sparsify.recipe.recipe import load_recipe

FEATURES, STEPS, LANDING = 40, 1200, 1080


def _problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, FEATURES)) @ (np.eye(FEATURES) + 0.05)
    w = rng.normal(size=FEATURES) * (rng.random(FEATURES) < 0.5)
    return x, x @ w + rng.normal(size=200)


def _method(network, target, **options):
    changes = {
        "method": "prescribed-l1",
        "methods.prescribed-l1": {"landing": LANDING / STEPS, "lr": 0.3, **options},
    }
    task = Task(network, nn.Identity(), target, (), STEPS, 0)
    return build_method(resolve(load_recipe("quickstart", changes=changes)), task)


def _train(method, loss, first, last):
    for _ in range(first, last):
        method.optimizer.zero_grad()
        loss().backward()
        method.mask_gradients()
        method.step()


@pytest.mark.parametrize("nonzero", [4, 10, 25])
def test_lambda_and_support_are_those_of_the_lasso(nonzero):
    x, y = _problem()
    inputs, outputs = torch.from_numpy(x), torch.from_numpy(y)
    network = nn.Linear(FEATURES, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(network.weight)
    method = _method(network, 1 - nonzero / FEATURES, rounds=10)

    def loss():
        return (network(inputs)[:, 0] - outputs).square().mean() / 2

    _train(method, loss, 0, LANDING - 1)
    solution = Lasso(alpha=method.lam, fit_intercept=False, tol=1e-12).fit(x, y).coef_
    assert np.count_nonzero(solution) == nonzero
    np.testing.assert_allclose(network.weight.detach().numpy()[0], solution, atol=1e-6)

    _train(method, loss, LANDING - 1, STEPS)
    method.finish()
    assert method.lam == 0
    support = np.flatnonzero(solution)
    debiased = np.linalg.lstsq(x[:, support], y, rcond=None)[0]
    np.testing.assert_allclose(network.weight.detach().numpy()[0, support], debiased, atol=0.02)
    assert int(network.weight.count_nonzero()) == nonzero


@pytest.mark.parametrize("allocation", ["uniform", "erk"])
def test_every_layer_has_its_lambda_and_its_number(allocation):
    """Two layers side by side, so that the problem stays convex."""
    x, y = _problem()
    inputs, outputs = torch.from_numpy(x), torch.from_numpy(y)
    network = nn.ModuleList([nn.Linear(width, 1, bias=False).double() for width in (10, 30)])

    def loss():
        left, right = network[0](inputs[:, :10]), network[1](inputs[:, 10:])
        return ((left + right)[:, 0] - outputs).square().mean() / 2

    method = _method(network, 0.6, allocation=allocation, rounds=30)
    _train(method, loss, 0, LANDING - 1)
    counts = {"uniform": [4, 12], "erk": [4, 12]}[allocation]
    assert [int(layer.weight.count_nonzero()) for layer in network] == counts
    for layer, block in zip(network, method.blocks, strict=True):
        gradient = layer.weight.grad.abs()
        lam, free = block["lambda_scale"], layer.weight != 0
        torch.testing.assert_close(gradient[free], torch.full_like(gradient[free], lam))
        assert (gradient <= lam * (1 + 1e-6)).all()
    first, second = (block["lambda_scale"] for block in method.blocks)
    assert first != second


def test_lambda_stays_after_a_round_in_which_weights_still_vanish():
    x, y = _problem()
    network = nn.Linear(FEATURES, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(network.weight, 0.02)
    method = _method(network, 0.9, rounds=40, averaged=1, lr=0.03)

    def loss():
        return (network(torch.from_numpy(x))[:, 0] - torch.from_numpy(y)).square().mean() / 2

    counts, lambdas = [], []
    for end in range(method.averaged, LANDING - 1, method.round_length):
        _train(method, loss, method.steps_done, end)
        counts.append(int(network.weight.count_nonzero()))
        lambdas.append(method.lam)
    falling = [n for n in range(1, len(counts)) if 4 < counts[n] < 0.9 * counts[n - 1]]
    assert 1 in falling
    assert all(lambdas[n] == lambdas[n - 1] for n in falling)


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("stop", [10, 100, 150, 230])
def test_resumes_in_the_middle_of_a_round(stop, start):
    """In the first average, in the average that ends the first round, and between two."""
    x, y = _problem()
    inputs, outputs = torch.from_numpy(x), torch.from_numpy(y)

    def begun():
        network = nn.Linear(FEATURES, 1, bias=False, dtype=torch.float64)
        nn.init.constant_(network.weight, start)
        return network, _method(network, 0.75, rounds=10)

    def train(network, method, first, last):
        def loss():
            return (network(inputs)[:, 0] - outputs).square().mean() / 2

        _train(method, loss, first, last)

    network, method = begun()
    train(network, method, 0, stop)
    weights, state = copy.deepcopy([network.state_dict(), method.state_dict()])
    train(network, method, stop, 600)
    again, resumed = begun()
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    train(again, resumed, stop, 600)
    assert resumed.lam == method.lam
    assert torch.equal(again.weight, network.weight)
