"""Every method through the interface the trainer uses."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from sparsify import SparsifyError, sparsity_table
from sparsify.methods.base import Task
from sparsify.methods.names import method_names
from sparsify.methods.registry import build_method, option_names, resolve
from sparsify.optim.sparse_optimizer import SparseOptimizer
from sparsify.recipe.recipe import load_recipe
from sparsify.sparsity.prunable import prunable_parameters

STEPS = 60
OPTIONS = {
    "adabreg-fixed": {"lambda_value": 0.03},
    "linbreg-fixed": {"lambda_value": 0.03},
    "rigl": {"every": 8},
}
SPARSE = [name for name in method_names() if name != "dense"]


def _setup(method, target=0.8, options=None, steps=STEPS, network=None, costs=None):
    torch.manual_seed(0)
    network = network or nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 12))
    head = nn.Linear(12, 5)
    changes = {"method": method, "target_sparsity": target}
    options = OPTIONS.get(method, {}) | (options or {})
    changes |= {f"methods.{method}.{key}": value for key, value in options.items()}
    recipe = load_recipe("quickstart", changes=changes)
    task = Task(network, head, target, (), steps, recipe.seed, costs=costs or {})
    return network, head, build_method(resolve(recipe), task)


def _run(network, head, method, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(32, 12, generator=generator)
        labels = x[:, :5].argmax(dim=1)
        method.optimizer.zero_grad()
        nn.functional.cross_entropy(head(network(x)), labels).backward()
        method.mask_gradients()
        method.step()


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("target", [0.5, 0.8, 0.95])
def test_finishes_at_exactly_the_target(name, target):
    network, head, method = _setup(name, target)
    _run(network, head, method, 0, STEPS)
    method.finish()
    size = sum(p.numel() for p in prunable_parameters(network).values())
    assert sparsity_table(network).sparsity == pytest.approx(round(target * size) / size)
    assert sparsity_table(head).sparsity == 0


LAYERWISE = [name for name in SPARSE if "allocation" in option_names(name)]
WAYS = [(name, {}) for name in SPARSE]
WAYS += [(name, {"allocation": each}) for name in LAYERWISE for each in ("erk", "uniform")]


@pytest.mark.parametrize(("name", "options"), WAYS)
def test_a_target_in_multiply_adds_is_met_from_below(name, options):
    """With costs that differ between layers and within one."""
    target = 0.9
    mixed = torch.ones(12, 40, dtype=torch.int64)
    mixed[:, :10] = 50
    costs = {"0.weight": 50, "2.weight": mixed}
    network, head, method = _setup(name, target, options, costs=costs)
    _run(network, head, method, 0, STEPS)
    method.finish()
    kept = 50 * int(network[0].weight.count_nonzero()) + int(mixed[network[2].weight != 0].sum())
    budget = (1 - target) * (50 * 480 + int(mixed.sum()))
    assert budget - 50 < kept <= budget + 0.5
    assert method.sparsity_target(STEPS) == target
    assert method.priced.nonzero == kept


class _Idle(nn.Sequential):
    """With a layer that no output depends on, which gets no gradient."""

    def __init__(self):
        super().__init__(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 12))
        self.idle, self.empty = nn.Linear(40, 24), nn.Linear(4, 1)
        self.empty.weight = nn.Parameter(torch.empty(0, 4))

    def forward(self, x):
        return self[2](self[1](self[0](x)))


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_weights_without_a_gradient_do_not_cost_the_target(name, scale):
    """Half of them, and once with all weights zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        network = _Idle()
        for parameter in network.parameters():
            parameter.mul_(scale)
    network, head, method = _setup(name, 0.5, network=network)
    _run(network, head, method, 0, STEPS)
    method.finish()
    assert sparsity_table(network).sparsity == 0.5
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    if isinstance(method.optimizer, SparseOptimizer):
        assert float(method.optimizer.measure_sparsity()) == 0.5


@pytest.mark.parametrize("name", SPARSE)
def test_finishing_early_still_meets_the_target(name):
    network, head, method = _setup(name)
    _run(network, head, method, 0, 7)
    method.finish()
    assert sparsity_table(network).sparsity == pytest.approx(0.8, abs=0.001)


def test_dense_training_has_no_zeros():
    network, head, method = _setup("dense")
    _run(network, head, method, 0, STEPS)
    method.finish()
    assert method.target_sparsity == sparsity_table(network).sparsity == 0


@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("stop", [10, 55])
def test_resumes_exactly(name, stop, tmp_path):
    straight, straight_head, method = _setup(name)
    _run(straight, straight_head, method, 0, stop)
    state = [straight.state_dict(), straight_head.state_dict(), method.state_dict()]
    torch.save(state, tmp_path / "state.pt")
    _run(straight, straight_head, method, stop, STEPS)
    method.finish()

    network, head, resumed = _setup(name)
    weights, head_weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    network.load_state_dict(weights)
    head.load_state_dict(head_weights)
    resumed.load_state_dict(state)
    _run(network, head, resumed, stop, STEPS)
    resumed.finish()
    for p, q in zip(straight.parameters(), network.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", method_names())
def test_sparsity_target_ends_at_the_target(name):
    _, _, method = _setup(name)
    assert method.sparsity_target(STEPS) == method.target_sparsity
    assert all(0 <= method.sparsity_target(step) < 1 for step in range(STEPS + 1))


def test_pruned_weights_stay_zero_under_momentum_and_decay():
    network, head, method = _setup("gmp", options={"weight_decay": 0.1, "every": 5})
    zero = [torch.zeros_like(w, dtype=torch.bool) for w in method.weights]
    for step in range(STEPS):
        _run(network, head, method, step, step + 1)
        now = [weight == 0 for weight in method.weights]
        assert all((after >= before).all() for before, after in zip(zero, now, strict=True))
        zero = now


def test_gmp_masks_equal_torch_pruning():
    network, _, method = _setup("gmp", 0.6)  # of which every layer keeps some
    reference = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 12))
    reference.load_state_dict(network.state_dict())
    prune.global_unstructured(
        [(reference[0], "weight"), (reference[2], "weight")], prune.L1Unstructured, amount=0.6
    )
    method.finish()
    assert torch.equal(network[0].weight, reference[0].weight)
    assert torch.equal(network[2].weight, reference[2].weight)


@pytest.mark.parametrize("rule", ["adaptive", "quantile"])
@pytest.mark.parametrize("name", ["adabreg", "linbreg"])
def test_bregman_tracks_the_target_before_landing(name, rule):
    options = {"lambda_rule": rule, "landing": 1.0, "every": 2}
    network, head, method = _setup(name, options=options, steps=400)
    _run(network, head, method, 0, 399)
    assert not method.optimizer.landed
    assert sparsity_table(network).sparsity == pytest.approx(0.8, abs=0.01)


def test_protected_layers_stay_dense():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 12))
    head = nn.Linear(12, 5)
    for name in ("adabreg", "gmp"):
        task = Task(network, head, 0.9, ("0.*",), STEPS, 0)
        method = build_method(resolve(load_recipe("quickstart", changes={"method": name})), task)
        _run(network, head, method, 0, STEPS)
        method.finish()
        assert torch.count_nonzero(network[0].weight) == network[0].weight.numel()
        assert sparsity_table(network, ["0.*"]).sparsity == pytest.approx(0.9, abs=0.002)


def _sparse_start(method, target, options=None, sparsity=0.8):
    """A method on a network of which exactly `sparsity` is zero, as one of ours on disk."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 12))
    head = nn.Linear(12, 5)
    layers = [(network[0], "weight"), (network[2], "weight")]
    with torch.no_grad():  # so that both have weights of all sizes
        network[2].weight *= (40 / 12) ** 0.5
    prune.global_unstructured(layers, prune.L1Unstructured, amount=sparsity)
    for layer, name in layers:
        prune.remove(layer, name)
    changes = {"method": method, "target_sparsity": target}
    changes |= {f"methods.{method}.{key}": value for key, value in (options or {}).items()}
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    task = Task(network, head, target, (), 100, 0, pretrained=True)
    return (
        network,
        head,
        build_method(resolve(load_recipe("quickstart", changes=changes)), task),
        before,
    )


SPARSE_STARTS = [(name, OPTIONS.get(name, {})) for name in SPARSE]
SPARSE_STARTS += [
    ("adabreg", {"every": 10}),
    ("adabreg", {"lambda_rule": "smoothed"}),
    ("adabreg", {"lambda_rule": "adaptive"}),
    ("linbreg", {"lr": 0.1}),
    ("linbreg", {"lr": 0.1, "delta": 2.0}),
    ("adabreg", {"lambda_rule": "adaptive", "lambda_value": 0.1, "lambda_change": "rescale"}),
]
SPARSE_STARTS += [(name, {"allocation": "uniform"}) for name in LAYERWISE]


@pytest.mark.parametrize(("name", "options"), SPARSE_STARTS)
def test_a_start_becomes_sparser_and_loses_no_zero(name, options):
    network, head, method, before = _sparse_start(name, 0.9, options)
    zero = {n: before[n] == 0 for n in prunable_parameters(network)}
    for step in range(100):
        _run(network, head, method, step, step + 1)
        for parameter, mask in zero.items():
            assert not network.get_parameter(parameter)[mask].any()
    method.finish()
    size = sum(mask.numel() for mask in zero.values())
    kept = sum(int(p.count_nonzero()) for p in prunable_parameters(network).values())
    assert kept == size - round(0.9 * size)
    assert all(not network.get_parameter(n)[mask].any() for n, mask in zero.items())


@pytest.mark.parametrize("target", [0.8, 0.7995])
@pytest.mark.parametrize(("name", "options"), [*SPARSE_STARTS, ("dense", {})])
def test_the_zeros_of_a_start_on_target_are_held(name, options, target):
    """To the last weight, whether or not all of them are among those that the target asks for."""
    network, head, method, before = _sparse_start(name, target, options)
    for parameter, start in before.items():
        assert torch.equal(network.get_parameter(parameter), start)
    assert method.settled
    assert method.fate_of_zeros == "held"
    assert method.sparsity_target(0) == pytest.approx(0.8, abs=0.001)
    for step in range(100):
        _run(network, head, method, step, step + 1)
        for parameter in prunable_parameters(network):
            assert not network.get_parameter(parameter)[before[parameter] == 0].any()
    method.finish()
    for parameter in prunable_parameters(network):
        now, zero = network.get_parameter(parameter), before[parameter] == 0
        assert torch.equal(now == 0, zero)
        assert not now[zero].signbit().any()
        assert not torch.equal(now, before[parameter])
    assert method.priced.on_target(method.target_sparsity)


@pytest.mark.parametrize("name", ["adabreg", "linbreg"])
def test_a_sparse_start_changes_its_weights_by_the_gradient_alone(name):
    """With λ still, `Δw = −δ·update` on the support: a step of vanishing size changes nothing."""
    network, head, method, before = _sparse_start(name, 0.8, {"lr": 1e-9})
    _run(network, head, method, 0, 6)
    for parameter, start in before.items():
        torch.testing.assert_close(network.get_parameter(parameter), start, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", [0.8, 0.9])
@pytest.mark.parametrize("name", method_names())
def test_a_sparse_start_resumes_exactly(name, target):
    straight, straight_head, method, _ = _sparse_start(name, target, OPTIONS.get(name))
    _run(straight, straight_head, method, 0, 7)
    state = copy.deepcopy([straight.state_dict(), straight_head.state_dict(), method.state_dict()])
    _run(straight, straight_head, method, 7, 30)
    network, head, resumed, _ = _sparse_start(name, target, OPTIONS.get(name))
    for part, saved in zip((network, head, resumed), state, strict=True):
        part.load_state_dict(saved)
    _run(network, head, resumed, 7, 30)
    for p, q in zip(straight.parameters(), network.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_dense_start_is_pruned_from_zero():
    network, head, method, _ = _sparse_start("adabreg", 0.9, sparsity=0.0)
    assert method.sparsity_target(0) == 0
    _run(network, head, method, 0, 100)
    method.finish()
    assert sparsity_table(network).sparsity == pytest.approx(0.9, abs=0.001)


def test_a_start_sparser_than_the_target():
    network, head, method, _ = _sparse_start("adabreg", 0.6)
    _run(network, head, method, 0, 100)
    method.finish()
    assert sparsity_table(network).sparsity == pytest.approx(0.6, abs=0.001)
    assert method.fate_of_zeros == "revived"
    with pytest.raises(SparsifyError, match=r"80\.00% sparse and end at 60\.00%"):
        _sparse_start("gmp", 0.6)


def test_what_gmp_found_zero_in_an_untrained_network_may_grow():
    torch.manual_seed(0)
    network, head = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12)), nn.Linear(12, 5)
    nn.init.zeros_(network[1].weight)
    task = Task(network, head, 0.5, (), 60, 0)
    method = build_method(resolve(load_recipe("quickstart", changes={"method": "gmp"})), task)
    _run(network, head, method, 0, 3)
    assert network[1].weight.count_nonzero() > 100


@pytest.mark.parametrize(("allocation", "narrow"), [("uniform", 2), ("erk", 6)])
def test_a_sparse_start_leaves_narrow_layers_what_the_allocation_gives_them(allocation, narrow):
    network = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 480))
    options = {"methods.adabreg.initial_allocation": allocation}
    recipe = load_recipe("quickstart", changes={"method": "adabreg"} | options)
    build_method(resolve(recipe), Task(network, nn.Linear(480, 2), 0.5, (), 60, 0))
    # Of 9800 weights 98: in proportion to 200 and 9600, or to 10 + 20 and 20 + 480.
    kept = [int(layer.weight.count_nonzero()) for layer in network]
    assert kept == [narrow, 98 - narrow]


def test_a_resolved_recipe_keeps_the_method_of_its_options():
    recipe = resolve(load_recipe("quickstart"))
    with pytest.raises(ValueError, match="method stays"):
        recipe.model_copy(update={"method": "gmp"})
    assert recipe.in_pieces(3).options == recipe.options
