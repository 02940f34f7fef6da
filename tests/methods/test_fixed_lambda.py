"""Fixed λ: the plain optimizer with FixedLambda; nothing but landing corrects its sparsity."""

import pytest
import torch
import yaml
from torch import nn

from sparsify import AdaBreg, FixedLambda, LinBreg, parameter_groups, sparsity_table
from sparsify.errors import SparsifyError
from sparsify.methods.base import Task, decay_groups
from sparsify.methods.registry import build_method, resolve
from sparsify.recipe.recipe import Recipe, load_recipe, parse_recipe

STEPS = 40


def _setup(name, target=0.8, lr=0.1, **options):
    torch.manual_seed(0)
    network, head = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 12)), nn.Linear(12, 5)
    changes = {"method": name, "target_sparsity": target}
    changes[f"methods.{name}"] = {"lr": lr, **options}
    recipe = load_recipe("quickstart", changes=changes)
    return network, head, build_method(resolve(recipe), Task(network, head, target, (), STEPS, 0))


def _train(network, head, step, steps=STEPS):
    for number in range(steps):
        x = torch.randn(32, 12, generator=torch.Generator().manual_seed(number))
        network.zero_grad()
        head.zero_grad()
        nn.functional.cross_entropy(head(network(x)), x[:, :5].argmax(dim=1)).backward()
        step()


@pytest.mark.parametrize(
    ("name", "optimizer", "hyper"),
    [
        ("linbreg-fixed", LinBreg, {"momentum": 0.9}),
        ("adabreg-fixed", AdaBreg, {"weight_decay": 0.01}),
    ],
)
def test_is_the_optimizer_with_that_lambda_until_it_lands(name, optimizer, hyper):
    network, head, method = _setup(name, lambda_value=0.05, landing=1.0, **hyper)
    twin, twin_head, _ = _setup(name, lambda_value=0.05)
    groups = decay_groups([*parameter_groups(twin), {"params": list(twin_head.parameters())}])
    plain = optimizer(groups, lr=0.1, lambda_rule=FixedLambda(0.05), **hyper)
    _train(network, head, method.step, STEPS - 1)
    _train(twin, twin_head, plain.step, STEPS - 1)
    for ours, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert method.lam == pytest.approx(0.05)
    assert not method.settled


def test_the_sparsity_is_what_lambda_makes_it():
    sparsities = []
    for lam in (0.0, 0.02, 0.2, 5.0):
        network, head, method = _setup("linbreg-fixed", lambda_value=lam, lr=1.0, landing=1.0)
        _train(network, head, method.step, STEPS - 1)
        assert method.sparsity_target(STEPS) == 0.8
        sparsities.append(sparsity_table(network).sparsity)
    assert sparsities == sorted(sparsities)
    assert sparsities[0] < 0.7
    assert sparsities[-1] > 0.98


def test_landing_corrects_the_sparsity_and_says_which_lambda_gives_it(caplog):
    network, head, method = _setup("linbreg-fixed", lambda_value=0.02, lr=1.0, landing=0.5)
    _train(network, head, method.step, STEPS // 2)
    size = sum(layer.weight.numel() for layer in network if isinstance(layer, nn.Linear))
    assert sparsity_table(network).sparsity == pytest.approx(round(0.8 * size) / size)
    (said,) = caplog.messages
    assert said.startswith("λ = 0.02 had led to a sparsity of ")
    wanted = float(said.split("λ = ")[2].split()[0])
    assert wanted == pytest.approx(method.lam, rel=1e-3)

    caplog.clear()
    network, head, method = _setup("linbreg-fixed", lambda_value=wanted, lr=1.0, landing=0.5)
    _train(network, head, method.step, STEPS // 2 - 1)
    assert sparsity_table(network).sparsity == pytest.approx(0.8, abs=0.03)


def test_lambda_by_target():
    values = {0.8: 0.3, 0.95: 0.6}
    assert _setup("adabreg-fixed", 0.95, lambda_value=values)[2].lam == 0.6
    recipe = Recipe(
        method="adabreg-fixed",
        target_sparsity=0.9,
        methods={"adabreg-fixed": {"lambda_value": values}},
    )
    with pytest.raises(SparsifyError, match=r"no λ for target_sparsity 0\.9, only for 0\.8, 0\.95"):
        resolve(recipe)


def test_lambda_by_target_survives_the_resolved_recipe():
    recipe = load_recipe(
        "quickstart", ["methods.linbreg-fixed.lambda_value={0.9: 2}"], {"method": "linbreg-fixed"}
    )
    again = parse_recipe(yaml.safe_load(recipe.to_yaml()), "again")
    assert resolve(again).options.lambda_value == {0.9: 2.0}


def test_lambda_must_be_given():
    with pytest.raises(SparsifyError, match=r"methods\.linbreg-fixed: 'lambda_value' is missing"):
        resolve(load_recipe("quickstart", changes={"method": "linbreg-fixed"}))
