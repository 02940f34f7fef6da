"""Clipping bounds the gradient of what is trained, whatever the gradients of held zeros are."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from sparsify.errors import SparsifyError
from sparsify.methods.names import method_names
from sparsify.methods.registry import pursues_target, resolve
from sparsify.recipe.recipe import load_recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.training.compute import choose_compute
from sparsify.training.distributed import Processes
from sparsify.training.learner import Learner
from sparsify.training.records import step_record
from sparsify.training.starting_network import start_of

SPARSE = [name for name in method_names() if pursues_target(name)]
OPTIONS = {
    "adabreg-fixed": {"lambda_value": 0.1},
    "linbreg-fixed": {"lambda_value": 0.1},
    "gmp": {"every": 1},
    "rigl": {"every": 3},
}
CLIP = 1e-3  # which the gradient exceeds in every step


def _learner(method, clip=CLIP):
    recipe = resolve(
        load_recipe(
            "quickstart",
            [
                "model.name=resnet34",
                "model.options={channels: 4, embedding_dim: 16}",
                "training.steps=8",
                "training.batch_size=4",
                f"training.gradient_clip={clip}",
            ],
            {
                "method": method,
                "target_sparsity": 0.5,
                f"methods.{method}": OPTIONS.get(method, {}),
            },
        )
    )
    return Learner(recipe, choose_compute("cpu", "fp32"), Processes(), 4, start_of(recipe))


def _batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(4, 4000, generator=generator), torch.arange(4)


@pytest.mark.parametrize("name", SPARSE)
def test_huge_gradients_of_held_zeros_change_nothing(name):
    learner = _learner(name)
    step = 0
    while not learner.method.settled or step < 7:
        step += 1
        learner.update(step, _batch(step))
    disturbed = copy.deepcopy(learner)
    for weight in prunable_parameters(disturbed.network).values():
        weight.register_hook(partial(torch.Tensor.masked_fill, mask=weight == 0, value=1e6))
    for each in (learner, disturbed):
        each.update(8, _batch(8))
    for own, other in zip(
        learner.network.parameters(), disturbed.network.parameters(), strict=True
    ):
        assert torch.equal(own, other)


@pytest.mark.parametrize("name", ["one-shot", "gmp", "rigl"])
def test_the_norm_is_that_of_what_is_trained(name):
    learner = _learner(name, clip=1e9)
    network = learner.network
    for step in range(1, 9):
        norm = learner.update(step, _batch(step))["gradient_norm"]
        gradients = [p.grad for p in (*network.parameters(), *learner.objective.parameters())]
        assert norm == pytest.approx(sum(float(g.square().sum()) for g in gradients) ** 0.5)
    for weight in prunable_parameters(network).values():
        assert not weight.grad[weight == 0].any()


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_a_norm_that_is_not_finite_is_none_if_such_steps_are_left_out(norm):
    learner = _learner("dense")
    learner.update(1, _batch(1))
    means = {"loss": 1.0, "gradient_norm": norm}
    with pytest.raises(SparsifyError, match=r"diverged before step 1 .a gradient of norm"):
        step_record(learner, 1, means, 0.5)
    learner.scaler = torch.amp.GradScaler("cpu")
    assert step_record(learner, 1, means, 0.5)["gradient_norm"] is None


@pytest.mark.parametrize("name", ["one-shot", "rigl"])
def test_what_overflows_behind_held_zeros_is_no_overflow(name):
    learner = _learner(name)
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(1, 9):
        if step == 4:
            for place, weight in enumerate(learner.method.weights):
                weight.register_hook(_overflow(learner.method, place))
        learner.update(step, _batch(step))
    assert learner.overflows == 0
    assert learner.scaler.get_scale() == 8.0


def _overflow(method, place):
    return lambda gradient: gradient.masked_fill(~method.masks[place], torch.inf)


def test_a_pruned_network_trains_as_under_torch_s_masks():
    learner = _learner("one-shot")
    for step in range(1, 5):
        learner.update(step, _batch(step))
    twin = copy.deepcopy(learner)
    optimizer = twin.method.optimizer
    layers = [m for m in twin.network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers:
        weight = layer.weight
        prune.custom_from_mask(layer, "weight", weight.detach() != 0)
        assert layer.weight_orig is weight  # which the optimizer goes on moving
    parameters = [*twin.network.parameters(), *twin.objective.parameters()]
    for step in range(5, 9):
        learner.update(step, _batch(step))
        twin._schedule(step)
        twin.network.train()
        optimizer.zero_grad()
        waveforms, labels = _batch(step)
        (feats,) = twin.features(waveforms)
        twin.objective(twin.network(feats), labels, None)["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
    own = dict(learner.network.named_parameters())
    for layer in layers:
        prune.remove(layer, "weight")
    for name, trained in twin.network.named_parameters():
        torch.testing.assert_close(own[name], trained, rtol=0, atol=1e-6)
