"""What the tests of the optimizers train: a small regression, and weights with random gradients."""

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from sparsify import L1, FixedLambda, LinBreg
from sparsify.optim.compiled import fits


@pytest.fixture(params=["readable", "compiled"])
def how(request):
    """The two ways to compute a step."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def readable():
    """The readable way."""
    return {"fused": False}


@pytest.fixture
def compiled():
    """The way of the C code."""
    if not fits(torch.zeros(1)):
        pytest.skip("needs a C compiler")
    return {"fused": True}


@pytest.fixture
def network():
    """Makes the network of the regression, always with the same weights."""

    def network(dtype=torch.float64):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 40), nn.Tanh(), nn.Linear(40, 12)).to(dtype)

    return network


@pytest.fixture
def loss_of():
    """The loss of the network on a random batch."""

    def loss_of(model, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(16, 12, generator=generator, dtype=torch.float64).to(model[0].weight.dtype)
        return (model(x) - x.roll(1, 1)).square().mean()

    return loss_of


@pytest.fixture
def train(loss_of):
    """Trains the network for some steps, each on the batch of its number."""

    def train(model, optimizer, steps, first=0, scheduler=None):
        for step in range(first, first + steps):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(1.0)
            elif scheduler is not None:
                scheduler.step()

    return train


@pytest.fixture
def equal():
    """Whether two models have the same weights, to the last bit."""

    def equal(first, second):
        pairs = zip(first.parameters(), second.parameters(), strict=True)
        return all(torch.equal(p, q) for p, q in pairs)

    return equal


@pytest.fixture
def optimizer_of():
    """Makes an optimizer of a weight, or of several, regularised by ℓ1."""

    def optimizer_of(weight, kind=LinBreg, **options):
        rule = options.pop("lambda_rule", None) or FixedLambda(0.1)
        return kind([{"params": weight, "regularizer": L1()}], lr=0.1, lambda_rule=rule, **options)

    return optimizer_of


@pytest.fixture
def random_step():
    """A step of an optimizer with a random gradient of one weight."""

    def random_step(optimizer, weight, seed):
        generator = torch.Generator().manual_seed(seed)
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
        optimizer.step()

    return random_step
