import numpy as np
import pytest
import torch

from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import copy_artifact, save_model
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.onnx.writing import replace_weights
from sparsify.exporters.twin import dense_weights
from sparsify.models.registry import build_model
from sparsify.sparsity.prunable import prunable_parameters


@pytest.mark.parametrize("name", ["dense", "bitmask", "onnx"])
def test_the_twin_has_the_same_network_and_no_zeros(artifacts, sparse_model, tmp_path, name):
    source = load_artifact(artifacts[name])
    exporter_of(source.format).twin(source, tmp_path / f"twin{source.path.suffix}")
    twin = load_artifact(tmp_path / f"twin{source.path.suffix}")
    assert twin.architecture == source.architecture
    assert twin.layout == "dense"
    assert weights_table(twin).sparsity == 0
    prunable = prunable_parameters(sparse_model)
    for key, tensor in source.state.items():
        kept = tensor != 0 if key in prunable else torch.ones_like(tensor, dtype=torch.bool)
        assert torch.equal(twin.state[key][kept], tensor[kept]), key


def test_zeros_get_values_of_their_tensors_scale(tmp_path):
    model = build_model("torch.nn:Linear", in_features=200, out_features=200)
    with torch.no_grad():
        model.weight.normal_(0, 0.07)
        model.weight[:, ::2] = 0
    save_model(model, tmp_path / "m.safetensors")
    filled = dense_weights(load_artifact(tmp_path / "m.safetensors"))["weight"][:, ::2]
    np.testing.assert_allclose(filled.std(), 0.07, rtol=0.03)
    np.testing.assert_allclose(filled.mean(), 0, atol=0.002)


@pytest.mark.parametrize("name", ["dense", "onnx"])
def test_channels_that_were_dead_compute_numbers(artifacts, tmp_path, name):
    """Their variance is zero, by whose root a norm divides."""
    given = load_artifact(artifacts[name])
    zero = {n: 0 * t for n, t in given.state.items() if n.endswith("running_var")}
    path = tmp_path / f"dead{given.path.suffix}"
    if given.graph:
        replace_weights(given.path, path, zero)
    else:
        copy_artifact(given.with_state(given.state | zero), path, "dense")
    exporter = exporter_of(given.format)
    exporter.twin(load_artifact(path), tmp_path / f"twin{path.suffix}")
    twin = load_artifact(tmp_path / f"twin{path.suffix}")
    feats = np.random.default_rng(0).normal(size=(1, 50, 80)).astype(np.float32)
    assert np.isfinite(exporter.network(twin)(feats)).all()
    assert all(twin.state[n].all() for n in zero)
