"""Networks that are not ours, from pruning to files and back."""

from pathlib import Path

import numpy as np
import pytest
import torch

import sparsify
from sparsify.artifact.artifact import weights_table
from sparsify.artifact.formats import DENSE
from sparsify.artifact.loading import load_artifact
from sparsify.exporters.export import export_artifact
from sparsify.sparsity.masks import largest_masks
from sparsify.sparsity.prunable import prunable_parameters

from ..versions import needs_newer_torch

INCLUDE = {
    "Unused": (),
    "Tied": (),
    "Recurrent": ("lstm.*", "gru.*"),
    "Attentive": ("attention.*", "levels.*"),
}


@pytest.fixture(params=list(INCLUDE))
def network(request, monkeypatch):
    """A network, half of whose weights are zero, its recipe, and the names of these weights."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "models")
    torch.manual_seed(0)
    model = sparsify.build_model(f"own_networks:{request.param}").eval()
    include = INCLUDE[request.param]
    weights = prunable_parameters(model, include=include)
    with torch.no_grad():
        for weight in weights.values():
            weight.mul_(largest_masks([weight.abs()], 0.5)[0])
    recipe = sparsify.recipe.recipe.Recipe.model_validate(
        {"model": {"name": f"own_networks:{request.param}", "include": include}}
    )
    return model, recipe, set(weights)


def exported(network, format_name, folder):
    """What was read from an export of a network, and the names of weights that it may hold."""
    model, recipe, names = network
    sparsify.save_model(model, folder / "model.safetensors", recipe)
    artifact = load_artifact(folder / "model.safetensors", trust=True)
    output = folder / f"model.{format_name}"
    assert export_artifact(artifact, output, format_name, DENSE).parity.passed
    return load_artifact(output, trust=True), {n for n in names if not n.startswith("spare")}


def check_table(written, names):
    table = weights_table(written)
    assert {layer.name for layer in table.prunable} == names
    assert table.sparsity == pytest.approx(0.5)
    assert not written.left_out
    assert float(written.metadata["sparsity"]) == table.sparsity


@pytest.mark.parametrize(
    "network",
    ["Unused", "Tied", pytest.param("Recurrent", marks=needs_newer_torch), "Attentive"],
    indirect=True,
)
def test_onnx_is_equal_and_knows_the_weights_and_gives_the_network_back(network, tmp_path):
    written, names = exported(network, "onnx", tmp_path)
    check_table(written, names)
    feats = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 30, 80)).astype(np.float32))
    with torch.inference_mode():
        torch.testing.assert_close(written.build()(feats), network[0](feats))


@pytest.mark.parametrize("network", ["Unused", "Tied"], indirect=True)
def test_mnn_is_equal_and_knows_the_weights(network, tmp_path):
    pytest.importorskip("MNN")
    check_table(*exported(network, "mnn", tmp_path))


def test_a_network_that_nothing_can_rebuild_leaves_its_weights(tmp_path, caplog):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(80, 24), torch.nn.ReLU(), torch.nn.Linear(24, 8))
    sparsify.save_model(model, tmp_path / "model.safetensors")
    assert "not how to rebuild it" in caplog.text
    state = load_artifact(tmp_path / "model.safetensors").state
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in model.state_dict().items()
    }
    with pytest.raises(sparsify.SparsifyError, match="how to rebuild it"):
        sparsify.save_model(model, tmp_path / "model.safetensors", layout="coded")
