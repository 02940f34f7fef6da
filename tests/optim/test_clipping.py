"""Clipping with zeros apart, against torch's on the entries taken apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparsify.optim.clipping import clip_gradients


def _parameters(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    weights = [nn.Parameter(torch.randn(4, 5, generator=generator)) for _ in range(2)]
    others = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(2, 2))]
    for parameter in (*weights, *others):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    with torch.no_grad():
        for weight in weights:
            weight[weight < 0.3] = 0.0
            weight.grad[weight == 0] *= scale
    return weights, others


@settings(max_examples=50)
@given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e6]),
    max_norm=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_zeros_and_the_rest_are_clipped_like_two_networks(seed, scale, max_norm):
    weights, others = _parameters(seed, scale)
    zeros = [weight == 0 for weight in weights]

    def entries(choose):
        parts = [nn.Parameter(w[choose(z)]) for w, z in zip(weights, zeros, strict=True)]
        for part, weight, zero in zip(parts, weights, zeros, strict=True):
            part.grad = weight.grad[choose(zero)].clone()
        return parts

    apart, rest = entries(lambda zero: zero), entries(lambda zero: ~zero)
    plain = [nn.Parameter(p.detach().clone()) for p in others]
    for own, other in zip(plain, others, strict=True):
        own.grad = other.grad.clone()
    nn.utils.clip_grad_norm_(apart, max_norm)
    expected = nn.utils.clip_grad_norm_([*rest, *plain], max_norm)

    norm = clip_gradients(weights, others, max_norm)
    torch.testing.assert_close(norm, expected)
    for weight, zero, gone, left in zip(weights, zeros, apart, rest, strict=True):
        torch.testing.assert_close(weight.grad[zero], gone.grad)
        torch.testing.assert_close(weight.grad[~zero], left.grad)
    for own, other in zip(plain, others, strict=True):
        torch.testing.assert_close(other.grad, own.grad)


@pytest.mark.parametrize(
    ("where", "value"),
    [(where, torch.inf) for where in ("weight", "zero", "other")]
    + [(where, torch.nan) for where in ("weight", "other")]
    + [("zero", -torch.inf)],
)
def test_an_overflow_is_told_and_one_of_zeros_spoils_nothing_else(where, value):
    weights, others = _parameters(0, 1.0)
    zero = weights[0] == 0
    broken = others[0].grad if where == "other" else weights[0].grad
    broken[{"weight": ~zero, "zero": zero, "other": ...}[where]] = value
    expected, plain = _parameters(0, 1.0)
    clip_gradients(expected, plain, 1.0)
    assert not clip_gradients(weights, others, 1.0).isfinite()
    if where == "zero":
        for own, other in zip((*weights, *others), (*expected, *plain), strict=True):
            alive = (own != 0) | (own.shape == (3,))
            torch.testing.assert_close(own.grad[alive], other.grad[alive])
    else:
        assert not all(p.grad.isfinite().all() for p in (*weights, *others))


def test_parameters_without_gradients_are_left_alone():
    weights, others = _parameters(0, 1.0)
    weights[0].grad = others[0].grad = None
    clip_gradients(weights, others, 1e-3)
    assert weights[0].grad is None
    assert others[1].grad.norm() < 1e-3
    assert clip_gradients([], [], 1.0) == 0
