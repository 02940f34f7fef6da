"""ReWA against the plain optimizers, its definition, and ℓ1 on sparse regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import lasso_path
from torch import nn
from torch.optim import SGD, AdamW

from sparsify.optim.rewa import ReWAAdamW, ReWASGD

INNER = [
    (ReWASGD, SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (ReWASGD, SGD, {"lr": 0.05}),
    (ReWAAdamW, AdamW, {"lr": 0.01, "weight_decay": 0.1}),
]


def _train(network, optimizer, first=0, last=30):
    for step in range(first, last):
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step)).to(
            next(network.parameters()).dtype
        )
        optimizer.zero_grad()
        (network(x) - x[:, :3] * x[:, 3:]).square().mean().backward()
        optimizer.step()


def _network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3)).to(dtype)


@pytest.mark.parametrize(("ours", "plain", "options"), INNER)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_power_one_is_the_plain_optimizer_bit_for_bit(ours, plain, options, dtype):
    network, reference = _network(dtype), _network(dtype)
    _train(network, ours(network.parameters(), power=1.0, gradient_power=0.0, **options))
    _train(reference, plain(reference.parameters(), **options))
    for p, q in zip(network.parameters(), reference.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(("power", "gradient_power", "smoothing"), [(2.25, 1.25, 0.0), (3, 2, 0.1)])
def test_steps_are_those_of_the_definition(power, gradient_power, smoothing):
    lr, decay, beta = 0.05, 0.02, 0.9
    weight = nn.Parameter(torch.randn(50, dtype=torch.float64))
    goal = torch.randn(50, dtype=torch.float64)
    x = weight.detach().numpy().copy()
    y, momentum = np.sign(x) * np.abs(x) ** (1 / power), 0.0
    optimizer = ReWASGD(
        [weight],
        lr,
        momentum=beta,
        weight_decay=decay,
        power=power,
        gradient_power=gradient_power,
        smoothing=smoothing,
    )
    for step in range(20):
        optimizer.zero_grad()
        (weight - goal).square().sum().div(2).backward()
        gradient = weight.grad.clone()
        optimizer.step()
        assert torch.equal(weight.grad, gradient)
        u = power * np.abs(y) ** (power - 1)
        scaled = (x - goal.numpy()) * u / (u + smoothing) * np.abs(y) ** gradient_power
        scaled = scaled + decay * y
        momentum = scaled if step == 0 else beta * momentum + scaled
        y = y - lr * momentum
        x = np.sign(y) * np.abs(y) ** power
        np.testing.assert_allclose(weight.detach().numpy(), x, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("ours", "plain", "options"), INNER)
def test_state_restores_in_the_middle(ours, plain, options, tmp_path):
    straight = _network()
    optimizer = ours(straight.parameters(), **options)
    _train(straight, optimizer, 0, 11)
    torch.save([straight.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    _train(straight, optimizer, 11)
    network = _network()
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    network.load_state_dict(weights)
    resumed = ours(network.parameters(), **options)
    resumed.load_state_dict(state)
    _train(network, resumed, 11)
    for p, q in zip(straight.parameters(), network.parameters(), strict=True):
        assert torch.equal(p, q)


def test_groups_closures_and_weights_written_in_between():
    network = _network()
    plain = {"power": 1.0, "gradient_power": 0.0}
    matrices = [p for p in network.parameters() if p.dim() > 1]
    biases = [p for p in network.parameters() if p.dim() == 1]
    optimizer = ReWAAdamW([{"params": matrices}, {"params": biases, **plain}], lr=0.01)
    x = torch.randn(16, 6, dtype=torch.float64)

    def closure():
        optimizer.zero_grad()
        loss = network(x).square().mean()
        loss.backward()
        return loss.detach()

    losses = [float(optimizer.step(closure)) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    assert all("latent" in optimizer.state[p] for p in matrices)
    assert not any("latent" in optimizer.state[p] for p in biases)
    with torch.no_grad():
        matrices[0].fill_(0.25)
    optimizer.reset_latents()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step(closure)
    torch.testing.assert_close(matrices[0].detach(), torch.full_like(matrices[0], 0.25))


def test_tiny_weights_are_positive_zeros():
    weight = nn.Parameter(torch.tensor([-1e-3, 1e-3, -0.0, 0.0]))
    optimizer = ReWASGD([weight], lr=1.0, power=9.0, gradient_power=2.0)
    optimizer.state[weight]["latent"] = torch.tensor([-1e-6, 1e-6, -0.0, 0.0])
    weight.grad = torch.ones(4)
    optimizer.step()
    assert weight.detach().tolist() == [0.0] * 4
    assert not torch.signbit(weight).any()


@pytest.mark.parametrize("name", ["power", "gradient_power", "smoothing"])
def test_hyperparameters_out_of_range_are_refused(name):
    with pytest.raises(ValueError, match=name):
        ReWASGD([nn.Parameter(torch.ones(2))], lr=0.1, **{name: -1.0})


@pytest.mark.parametrize(
    ("ours", "plain", "lr", "plain_lr", "options"),
    [
        (ReWASGD, SGD, 0.1, 0.01, {"momentum": 0.9, "weight_decay": 3e-3}),
        (ReWAAdamW, AdamW, 0.05, 0.05, {"weight_decay": 0.1}),
    ],
)
def test_recovers_a_sparse_support_better_than_l1_and_the_plain_optimizer(
    ours, plain, lr, plain_lr, options
):
    """All are asked for ten nonzeros of 120, with 60 correlated observations."""
    problems, found_l1 = [], 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = 0.5**0.5 * (rng.normal(size=(60, 1)) + rng.normal(size=(60, 120)))
        support = rng.choice(120, 10, replace=False)
        w = np.zeros(120)
        w[support] = rng.choice([-1, 1], 10) * rng.uniform(0.5, 1.5, 10)
        y = x @ w + 0.1 * rng.normal(size=60)
        problems.append((x, y, set(support.tolist())))
        largest = np.abs(x.T @ y).max() / len(y)
        path = lasso_path(x, y, alphas=largest * np.geomspace(1, 1e-2, 200))[1].T
        prescribed = [w for w in path if np.count_nonzero(w) <= 10][-1]
        found_l1 += len(set(np.flatnonzero(prescribed).tolist()) & problems[-1][2])
    x, y = (torch.from_numpy(np.stack([p[i] for p in problems])) for i in (0, 1))

    def found(optimizer_class, lr):
        weight, steps = nn.Parameter(torch.full((6, 120), 0.1, dtype=torch.float64)), 800
        optimizer = optimizer_class([weight], lr, **options)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            ((x @ weight[..., None])[..., 0] - y).square().mean(1).sum().div(2).backward()
            optimizer.step()
            schedule.step()
        largest = weight.detach().abs().topk(10, dim=1).indices.tolist()
        return sum(len(set(row) & p[2]) for row, p in zip(largest, problems, strict=True))

    found_ours = found(ours, lr)
    assert found_ours >= found_l1 + 8
    assert found_ours >= found(plain, plain_lr) + 4, (found_ours, found(plain, plain_lr))
