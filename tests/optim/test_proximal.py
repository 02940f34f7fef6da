"""ProxSGD against its fixed points and the definition of its momentum."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import nn

from sparsify import FixedLambda, ProxSGD, parameter_groups


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_minimises_the_lasso(momentum):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 20)), rng.normal(size=50)
    network = nn.Linear(20, 1, bias=False, dtype=torch.float64)
    optimizer = ProxSGD(
        parameter_groups(network), lr=0.3, momentum=momentum, lambda_rule=FixedLambda(0.1)
    )
    for _ in range(600):
        optimizer.zero_grad()
        loss = (network(torch.from_numpy(x))[:, 0] - torch.from_numpy(y)).square().mean() / 2
        loss.backward()
        optimizer.step()
    solution = Lasso(alpha=0.1, fit_intercept=False, tol=1e-12).fit(x, y).coef_
    np.testing.assert_allclose(network.weight.detach().numpy()[0], solution, atol=1e-8)
    assert np.count_nonzero(solution) == int(network.weight.count_nonzero()) < 20


def test_momentum_is_that_of_sgd_where_nothing_is_regularised():
    """With λ = 0 and the same step size: SGD with learning rate τ(1 − β)."""
    ours, plain = (nn.Linear(5, 3, dtype=torch.float64) for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    optimizers = [
        ProxSGD(ours.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05),
        torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9, weight_decay=0.05),
    ]
    for step in range(20):
        x = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        for network, optimizer in zip((ours, plain), optimizers, strict=True):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, plain.weight, rtol=1e-12, atol=1e-14)


def test_momentum_of_bfloat16_weights_keeps_its_precision_on_loading():
    """Of gradients that are all 0.3 it is 0.3·(1 − β³), which bfloat16 cannot hold."""
    weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer, resumed = (ProxSGD([weight], lr=0.01, momentum=0.9) for _ in range(2))
    for _ in range(3):
        weight.grad = torch.full_like(weight, 0.3)
        optimizer.step()
    resumed.load_state_dict(optimizer.state_dict())
    expected = torch.full((4,), weight.grad[0].item() * (1 - 0.9**3))
    torch.testing.assert_close(resumed.state[weight]["momentum_buffer"], expected)


def test_momentum_out_of_range_is_refused():
    with pytest.raises(ValueError, match="momentum"):
        ProxSGD([nn.Parameter(torch.ones(2))], momentum=1.0)
