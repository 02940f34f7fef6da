"""The C code: what it steps, beside the plain code, and what happens where it cannot."""

import ctypes
import logging

import pytest
import torch
from torch import nn

from sparsify import L1, AdaBreg, FixedLambda, LinBreg, QuantileLambda, parameter_groups
from sparsify.optim.compiled import _fields_of, _library, _log_slow

KINDS = [LinBreg, AdaBreg]
HYPERPARAMETERS = [
    (kind, name, value)
    for kind in KINDS
    for name, value in kind([nn.Parameter(torch.zeros(1))]).defaults.items()
    if name != "regularizer"
]


def _other(value):
    """Another value of a hyperparameter."""
    if isinstance(value, tuple):
        return tuple(map(_other, value))
    return not value if isinstance(value, bool) else value / 2 + 0.1


@pytest.mark.parametrize(("kind", "name", "value"), HYPERPARAMETERS)
def test_every_hyperparameter_reaches_both_ways(kind, name, value, readable, compiled, random_step):
    def trained(way, **changes):
        weight = nn.Parameter(torch.linspace(-1, 1, 20, dtype=torch.float64))
        momentum = {"momentum": 0.9} if kind is LinBreg else {}
        group = {"params": weight, "regularizer": L1(), **momentum, **changes}
        optimizer = kind([group], lambda_rule=FixedLambda(0.1), **way)
        for seed in range(3):
            random_step(optimizer, weight, seed)
            optimizer.lam += 0.1
        return weight.detach()

    changed = {name: _other(value)}
    ours = trained(compiled, **changed)
    torch.testing.assert_close(ours, trained(readable, **changed), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(ours, trained(compiled), rtol=1e-6, atol=0)


def test_a_hyperparameter_that_the_c_code_lacks_is_no_step(compiled, optimizer_of, random_step):
    weight = nn.Parameter(torch.ones(3))
    optimizer = optimizer_of(weight, **compiled)
    for settings in (optimizer.defaults, *optimizer.param_groups):
        settings["novel"] = 0.5
    with pytest.raises(AttributeError, match="novel"):
        random_step(optimizer, weight, 0)


def test_the_fields_of_the_c_code_are_its_declarations():
    source = """/* lr */ typedef struct { double other; } Other;
    typedef struct {
        double lr, eps /* of Adam, double */; // see } Group;
        double
            limit; /* negative:
                      none */
    } Group;"""
    assert _fields_of(source) == ["lr", "eps", "limit"]
    foreign = ["float cap;", "double *cap;", "double cap[2];", "double lr cap;", "#if 1\n", ";"]
    others = [source.replace("double lr", f"{each} double lr") for each in foreign]
    for other in (*others, "typedef struct { double lr; } Other;"):
        with pytest.raises(RuntimeError, match="Group"):
            _fields_of(other)


def test_c_code_with_other_fields_is_an_error(compiled, monkeypatch):
    other = type("Other", (ctypes.Structure,), {"_fields_": [("lr", ctypes.c_double)]})
    monkeypatch.setattr("sparsify.optim.compiled._Group", other)
    with pytest.raises(RuntimeError, match="Group"):
        _library.__wrapped__(torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_weights_are_stepped_by_the_c_code(kind, caplog):
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 2)).to(memory_format=layout)
        rule = QuantileLambda(0.6, every=2)
        optimizer = kind(parameter_groups(model), lr=0.01, lambda_rule=rule, fused=True)
        for step in range(6):
            optimizer.zero_grad()
            model(torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8)).square().mean().backward()
            optimizer.step()
            if step == 3:
                optimizer.land(0.7)
        results.append([p.detach() for p in model.parameters()])
        assert results[-1][0].is_contiguous(memory_format=layout)
    for plain, permuted in zip(*results, strict=True):
        torch.testing.assert_close(permuted, plain, rtol=1e-4, atol=1e-6)


def test_weights_too_many_for_the_caches_are_written_alike(optimizer_of):
    """Also where tensors start or end in the middle of what is written at once."""
    results = []
    for fused_ in (True, False):
        generator = torch.Generator().manual_seed(0)
        flat = torch.randn(4_400_017, generator=generator)
        weights = [nn.Parameter(flat[:4_300_000]), nn.Parameter(flat[4_300_001:].view(-1, 1))]
        weights.append(nn.Parameter(torch.randn(300, generator=generator)))
        rule = QuantileLambda(0.8, every=2)
        optimizer = optimizer_of(weights, fused=fused_, lambda_rule=rule)
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
        results.append([*(weight.detach() for weight in weights), optimizer.measure_sparsity()])
    for ours, other in zip(*results, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-6)


def test_odd_gradients_are_read_as_what_they_are(optimizer_of):
    for make in (lambda g: g.half(), lambda g: torch._neg_view(-g), lambda g: g[0].expand(30, 20)):
        results = []
        for fused_ in (None, False):
            weight = nn.Parameter(torch.ones(30, 20))
            weight.grad_dtype = None
            optimizer = optimizer_of(weight, fused=fused_)
            gradient = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
            weight.grad = make(gradient)
            optimizer.step()
            results.append(weight.detach().clone())
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)


def test_a_layout_that_the_c_code_cannot_step_is_logged(caplog, optimizer_of, random_step):
    _log_slow.cache_clear()
    weight = nn.Parameter(torch.ones(6, 4).t())
    optimizer = optimizer_of(weight)
    with caplog.at_level(logging.WARNING):
        random_step(optimizer, weight, 0)
        random_step(optimizer, weight, 1)
    assert caplog.text.count("transposed") == 1


def test_without_a_compiler_the_steps_are_plain_and_the_log_says_so(
    monkeypatch, caplog, tmp_path, network, train, equal
):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _library.cache_clear()
    try:
        model, plain = network(), network()
        with caplog.at_level(logging.WARNING):
            train(model, AdaBreg(parameter_groups(model), lr=0.1), 2)
        assert caplog.text.count("no-such-compiler") == 1
        train(plain, AdaBreg(parameter_groups(plain), lr=0.1, fused=False), 2)
        assert equal(model, plain)
        with pytest.raises(RuntimeError, match="C compiler"):
            train(model, AdaBreg(parameter_groups(model), lr=0.1, fused=True), 1)
    finally:
        _library.cache_clear()
