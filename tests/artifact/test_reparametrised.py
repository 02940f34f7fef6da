"""Weights that PyTorch stores in parts."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from sparsify import build_model
from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.reparametrised import whole
from sparsify.tensors import arrays_of, tensors_of


def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(4, 8, 3), nn.Linear(8, 16), nn.Conv1d(4, 4, 1))


@pytest.mark.parametrize("dim", [0, 1, None])
def test_parts_become_the_weight_that_torch_computes_with(dim):
    model = layers()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(model[1], dim=dim if dim is not None else 0)
    parametrizations.weight_norm(model[2], dim=dim if dim is not None else 0)
    state = tensors_of(whole(arrays_of(model.state_dict())))
    assert set(state) == set(layers().state_dict())
    for number, layer in enumerate(model):
        torch.testing.assert_close(state[f"{number}.weight"], layer.weight)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mask", [torch.bool, torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize("weight", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_masked_weights_are_of_the_type_that_torch_gives_them(weight, mask):
    parts = {
        "a_orig": torch.tensor([[1.0, 2.0], [-3.0, 4.0]]).to(weight),
        "a_mask": torch.tensor([[1, 0], [0, 1]]).to(mask),
        "scale_orig": torch.tensor(2.0).to(weight),
        "scale_mask": torch.tensor(1).to(mask),
    }
    if parts["a_orig"].is_floating_point():
        parts["a_orig"][0, 0] = torch.inf
        parts["a_orig"][0, 1] = -torch.inf  # which a mask makes no number
    found = tensors_of(whole(arrays_of(parts)))
    for name in ("a", "scale"):
        expected = parts[f"{name}_orig"] * parts[f"{name}_mask"]
        torch.testing.assert_close(found[name], expected, rtol=0, atol=0, equal_nan=True)


def test_what_only_looks_like_parts_stays():
    odd = {
        "a_orig": np.ones((2, 3)),
        "a_mask": np.ones((3, 2)),
        "b_g": np.ones(4),
        "b_v": np.ones(4),
        "c_orig": np.ones((2, 2)),
        "d": np.ones(1),
        "d_orig": np.ones((2, 2)),
        "d_mask": np.ones((2, 2)),
    }
    found = whole(odd)
    assert found.keys() == odd.keys()
    assert all(found[name] is odd[name] for name in odd)


def test_a_pruned_model_reads_as_sparse_as_it_is(tmp_path):
    model = build_model("ecapa-tdnn", channels=8, aggregation_channels=16)
    prune.l1_unstructured(model.conv, "weight", amount=0.8)
    torch.save({"net": model.state_dict()}, tmp_path / "m.pt")
    table = weights_table(load_artifact(tmp_path / "m.pt"))
    (layer,) = (each for each in table.layers if each.name == "conv.weight")
    assert layer.sparsity == pytest.approx(0.8, abs=0.01)
