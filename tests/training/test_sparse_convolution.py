"""Convolutions without zeros: torch's, in double precision, is what they are compared with."""

import subprocess
from copy import deepcopy
from importlib import resources
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparsify.errors import SparsifyError
from sparsify.methods.registry import METHODS, resolve
from sparsify.recipe.recipe import parse_recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.training import sparse_convolution
from sparsify.training.compute import choose_compute
from sparsify.training.distributed import Processes
from sparsify.training.learner import Learner
from sparsify.training.sparse_convolution import leave_out_zeros
from sparsify.training.starting_network import start_of


@pytest.fixture(autouse=True)
def _compiler():
    if not sparse_convolution.available():
        pytest.skip("there is no C compiler")


def convolution(kind, *arguments, density, **settings):
    """One with few weights that are not zero, as a network."""
    layer = kind(*arguments, **settings)
    with torch.no_grad():
        layer.weight.mul_(torch.rand_like(layer.weight) < density)
    return nn.Sequential(layer)


def results(network, x, slopes):
    """Output and gradients, by input, weight and bias."""
    x = x.detach().requires_grad_()
    y = network(x)
    inputs = [x, *network.parameters()]
    return [y, *torch.autograd.grad(y, inputs, slopes.to(y), allow_unused=True)]


def both(network, x, *, whole):
    """Results as torch has them in double precision, and ours."""
    torch.manual_seed(1)
    with torch.no_grad():
        slopes = torch.randn_like(network(x))
    exact = results(deepcopy(network).double(), x.double(), slopes)
    leave_out_zeros(network, {"0.weight"}).fill_(whole)
    return exact, results(network, x, slopes)


@settings(max_examples=60)
@given(
    dimensions=st.integers(1, 2),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    dilation=st.integers(1, 3),
    padding=st.integers(0, 4),
    mode=st.sampled_from(["zeros", "reflect"]),
    frames=st.integers(17, 200),
    batch=st.sampled_from([(), (1,), (2,), (3,)]),
    density=st.sampled_from([0.0, 0.1]),
    whole=st.booleans(),
    threads=st.integers(1, 3),
)
def test_outputs_and_gradients_are_those_of_torch(
    dimensions, channels, kernel, dilation, padding, mode, frames, batch, density, whole, threads
):
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    kind = (nn.Conv1d, nn.Conv2d)[dimensions - 1]
    sizes = kernel[:dimensions]
    most = [min(padding, dilation * (size - 1)) for size in sizes]
    network = convolution(
        kind,
        *channels,
        sizes,
        padding=tuple(most),
        dilation=dilation,
        padding_mode=mode,
        density=density,
    )
    x = torch.randn(*batch, channels[0], *[frames, 13][:dimensions])
    exact, found = both(network, x, whole=whole)
    zero = network[0].weight == 0
    if not whole and not found[2][zero].any():  # of few frames, zeros have a gradient
        exact[2] = exact[2].masked_fill(zero, 0.0)
    for one, other in zip(exact, found, strict=True):
        close = 2e-6 * (1 + float(one.detach().abs().max()))
        torch.testing.assert_close(other.double(), one, rtol=0, atol=close)


def test_a_copy_computes_with_its_own_weights():
    network = convolution(nn.Conv1d, 8, 8, 3, density=0.1)
    leave_out_zeros(network, {"0.weight"})
    copy = deepcopy(network)
    x = torch.randn(1, 8, 40)
    with torch.no_grad():
        before = network(x)
        copy[0].weight.zero_()
        assert torch.equal(network(x), before)
        torch.testing.assert_close(copy(x), copy[0].bias.view(-1, 1).expand(1, 8, 38))
    assert copy.state_dict().keys() == {"0.weight", "0.bias"}


def test_it_is_compiled_in_one_piece():
    network = convolution(nn.Conv1d, 16, 16, 3, density=0.1, padding=1, padding_mode="reflect")
    leave_out_zeros(network, {"0.weight"}).fill_(False)
    x, slopes = torch.randn(2, 16, 50), torch.randn(2, 16, 50)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    for one, other in zip(results(network, x, slopes), results(compiled, x, slopes), strict=True):
        torch.testing.assert_close(one, other)


def test_zeros_have_a_gradient_only_if_it_is_wanted():
    network = convolution(nn.Conv1d, 16, 16, 3, density=0.1)
    zero = network[0].weight == 0
    for whole in (True, False):
        gradient = both(network, torch.randn(3, 16, 50), whole=whole)[1][2]
        assert bool(gradient[zero].all()) == bool(gradient[zero].any()) == whole
        assert gradient[~zero].all()


@pytest.mark.parametrize(
    "network",
    [
        convolution(nn.Conv1d, 8, 8, 3, stride=2, density=0.1),
        convolution(nn.Conv1d, 8, 8, 3, groups=2, density=0.1),
        convolution(nn.Conv1d, 8, 8, 3, padding="same", density=0.1),
        convolution(nn.Conv1d, 8, 8, 3, padding=3, density=0.1),
        convolution(nn.Conv1d, 8, 8, 3, density=1.0),
    ],
)
def test_other_convolutions_are_left_alone(network):
    x = torch.randn(2, 8, 40)
    ours = deepcopy(network)
    leave_out_zeros(ours, {"0.weight"}).fill_(False)
    slopes = torch.randn_like(network(x))
    for one, other in zip(results(network, x, slopes), results(ours, x, slopes), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (convolution(nn.Conv1d, 8, 8, 3, density=0.1), (2, 2, 20)),  # too few channels
        (convolution(nn.Conv1d, 8, 8, 33, density=0.1), (2, 8, 32)),  # one frame too few
        (convolution(nn.Conv1d, 8, 8, 43, density=0.1), (2, 8, 32)),
        (convolution(nn.Conv2d, 8, 8, (33, 1), density=0.1), (2, 8, 32, 20)),
        (convolution(nn.Conv1d, 8, 8, 3, density=0.1), (2, 8, 20, 20)),  # too many axes
    ],
)
def test_what_torch_refuses_is_refused(network, shape):
    x = torch.randn(shape)
    with pytest.raises(RuntimeError) as expected:
        network(x)
    leave_out_zeros(network, {"0.weight"}).fill_(False)
    with pytest.raises(RuntimeError) as found:
        network(x)
    assert str(found.value) == str(expected.value)


def test_protected_weights_keep_the_gradient_of_their_zeros():
    network = convolution(nn.Conv1d, 8, 8, 3, density=0.1)
    leave_out_zeros(network, set()).fill_(False)
    x = torch.randn(2, 8, 40)
    network(x).square().sum().backward()
    assert network[0].weight.grad[network[0].weight == 0].all()


def test_sums_do_not_depend_on_the_number_of_threads():
    network = convolution(nn.Conv1d, 40, 40, 3, density=0.1)
    x = torch.randn(4, 40, 70)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(both(network, x, whole=False)[1])
    assert all(torch.equal(a, b) for a, b, c in zip(*found, strict=True) for b in (b, c))


TINY = {
    "model": {
        "name": "ecapa-tdnn",
        "options": {"channels": 32, "aggregation_channels": 64, "embedding_dim": 16},
    },
    "data": {"path": "synthetic", "crop_seconds": 0.5},
    "training": {"steps": 8, "batch_size": 8, "precision": "fp32", "warmup": 0.1},
    "target_sparsity": 0.95,
}
SPEAKERS = 6


OPTIONS = {
    **{f"{name}-fixed": {"lambda_value": 0.05, "landing": 0.5} for name in ("adabreg", "linbreg")},
    **{name: {"landing": 0.5} for name in ("adabreg", "linbreg", "str")},
    **{name: {"every": 2} for name in ("rigl", "granet", "gmp")},
}


def learner(method, sparse):
    changes = {"method": method, "methods": {method: OPTIONS.get(method, {})}}
    training = TINY["training"] | {"sparse_convolutions": sparse}
    recipe = resolve(parse_recipe(TINY | changes | {"training": training}, "here"))
    compute = choose_compute("cpu", "fp32")
    return Learner(recipe, compute, Processes(), SPEAKERS, start_of(recipe))


def batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(TINY["training"]["steps"]):
        labels = torch.randint(0, SPEAKERS, (8,), generator=generator)
        yield torch.randn(8, 8000, generator=generator) / 10, labels


def weights(learner):
    return torch.cat([p.detach().flatten() for p in learner.network.parameters()])


@pytest.mark.parametrize("method", METHODS)
def test_no_method_misses_a_gradient_that_it_says_it_does_not_use(method):
    with_all, without = learner(method, False), learner(method, False)
    steps, mask_gradients = 0, without.method.mask_gradients

    def less():
        nonlocal steps
        if not without.method.uses_gradients_of_zeros:
            steps += 1
            for weight in prunable_parameters(without.network).values():
                weight.grad.masked_fill_(weight == 0, 0.0)
        mask_gradients()

    without.method.mask_gradients = less
    for step, batch in enumerate(batches(), 1):
        for each in (with_all, without):
            each.update(step, batch)
        assert torch.equal(weights(with_all), weights(without))
    assert (steps > 0) == (method != "dense")


def test_a_training_without_zeros_is_the_same():
    dense, sparse = learner("adabreg-fixed", False), learner("adabreg-fixed", True)
    before, flags = weights(dense), []
    for step, batch in enumerate(batches(), 1):
        for each in (dense, sparse):
            each.update(step, batch)
        flags.append(bool(sparse.gradients_of_zeros))
    assert flags == [True] * 4 + [False] * 4
    difference = (weights(sparse) - weights(dense)).norm() / (weights(dense) - before).norm()
    assert difference < 0.1
    assert dense.gradients_of_zeros is None
    state = sparse.network.state_dict()
    assert state.keys() == dense.network.state_dict().keys()
    assert int(state["layer1.bn.num_batches_tracked"]) == len(flags)


def test_without_a_compiler_a_training_is_dense_and_says_so(monkeypatch, caplog):
    def nothing():
        raise OSError("no compiler")

    monkeypatch.setattr(sparse_convolution, "_library", nothing)
    assert learner("adabreg", "auto").gradients_of_zeros is None
    assert "multiply by zeros" in caplog.text


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"sparse_convolutions": True}, "set it to fp32"),
        ({"sparse_convolutions": True, "precision": "bf16"}, "precision is bf16"),
        (
            {"sparse_convolutions": True, "precision": "fp32", "quantisation_aware": True},
            "leave one of them out",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(training, words):
    with pytest.raises(SparsifyError, match=words):
        parse_recipe({"training": training}, "here")


@pytest.mark.parametrize("options", [[], ["-march=native", "-fopenmp"]])
def test_the_code_reads_and_writes_nothing_beyond_its_arrays(
    compile_c, sanitizers, tmp_path, options
):
    source = resources.files("sparsify.training").joinpath("sparse_convolution.c").read_text()
    options = ["-Wno-unknown-pragmas", "-Wno-unused-parameter", "-O2", *options]
    main = Path(__file__).with_name("sparse_convolution_main.c").read_text()
    program = compile_c(source + main, tmp_path / "guarded", *sanitizers, *options)
    assert subprocess.run([program], check=False).returncode == 0
