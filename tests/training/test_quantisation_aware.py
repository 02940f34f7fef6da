"""Quantisation-aware training: what its steps see is what int8 graphs compute."""

import pytest
import torch
from torch import nn

from sparsify.errors import SparsifyError
from sparsify.models.registry import build_model
from sparsify.recipe.recipe import parse_recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.training.quantisation_aware import (
    QuantisationAware,
    rounded_activation,
    rounded_weight,
)


def test_weights_have_levels_by_channel_and_keep_zeros():
    weight = torch.randn(5, 3, 4)
    weight[weight.abs() < 0.5] = 0
    weight[2] = 0
    rounded = rounded_weight(weight)
    assert (rounded[weight == 0] == 0).all()
    for channel, levels in zip(weight, rounded, strict=True):
        step = channel.abs().max() / 127
        torch.testing.assert_close(levels, (channel / step).round().nan_to_num() * step)


def test_activations_have_256_levels_with_zero_among_them():
    for x in (torch.randn(4, 50), torch.rand(4, 50) + 1, torch.zeros(3)):
        rounded = rounded_activation(x)
        step = (x.max().clamp(min=0) - x.min().clamp(max=0)) / 255
        assert len(rounded.unique()) <= 256
        assert (rounded - x).abs().max() <= 0.51 * step
        assert rounded_activation(torch.cat([x.flatten(), torch.zeros(1)]))[-1] == 0


def test_gradients_reach_the_weights_and_nothing_else_changes():
    model = build_model("ecapa-tdnn", channels=8, aggregation_channels=16, embedding_dim=4).eval()
    weights = prunable_parameters(model)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    feats = torch.randn(2, 30, 80)
    exact, seen = model(feats), QuantisationAware(model)(feats)
    assert not torch.equal(exact, seen)
    assert nn.functional.cosine_similarity(exact, seen).min() > 0.95
    inputs = list(weights.values())
    plain = torch.autograd.grad(exact.square().sum(), inputs, retain_graph=True)
    straight = torch.autograd.grad(seen.square().sum(), inputs)
    for one, other in zip(plain, straight, strict=True):
        alike = nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
        assert alike > 0.8 or not (one.any() or other.any())  # behind a ReLU that is never active
    assert all(torch.equal(weight, before[name]) for name, weight in weights.items())
    torch.testing.assert_close(model(feats), exact)  # no hook is left


def test_it_is_not_compiled():
    content = {"training": {"compile": True, "quantisation_aware": True}}
    with pytest.raises(SparsifyError, match="leave one of them out"):
        parse_recipe(content, "here")
