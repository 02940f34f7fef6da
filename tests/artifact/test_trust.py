"""A file never runs code, and what it says of a network is checked before it is obeyed."""

import json
import sys
import types

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sparsify import SparsifyError, build_model, load_model, save_model
from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.seals import seal, tensor_entries
from sparsify.comparison.rows import _sizes
from sparsify.exporters.export import export_artifact
from sparsify.exporters.onnx.writing import export_onnx
from sparsify.sparsity.counting import sparsity_table
from sparsify.tensors import arrays_of

NAME = "own_networks:pooled"


class Pooled(nn.Module):
    """With a table that is no layer of ours, and a small convolution."""

    def __init__(self, width):
        super().__init__()
        self.table = nn.Embedding(4, 80)
        self.conv = nn.Conv1d(80, width, 3)
        self.norm = nn.BatchNorm1d(width)
        self.small = nn.Linear(width, 4)

    def forward(self, feats):
        shifted = (feats + self.table.weight.mean(0)).transpose(1, 2)
        return self.small(self.norm(self.conv(shifted)).mean(2))


@pytest.fixture
def calls(monkeypatch):
    """The calls of the factory of a network that no annotation gives away."""
    module, calls = types.ModuleType("own_networks"), []

    def pooled(width):
        calls.append(width)
        return Pooled(width)

    module.pooled = pooled
    monkeypatch.setitem(sys.modules, "own_networks", module)
    return calls


@pytest.fixture
def saved(calls, tmp_path):
    """Such a network, half of its convolution pruned, in both formats."""
    model = build_model(NAME, width=6).eval()
    with torch.no_grad():
        model.conv.weight[:3] = 0
    save_model(model, tmp_path / "model.safetensors")
    export_onnx(load_artifact(tmp_path / "model.safetensors", trust=True), tmp_path / "model.onnx")
    calls.clear()
    return model


@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
def test_reading_the_weights_of_a_network_that_is_code_runs_none(saved, calls, tmp_path, suffix):
    artifact = load_artifact(tmp_path / f"model.{suffix}")
    assert weights_table(artifact) == sparsity_table(saved)
    assert [layer.name for layer in weights_table(artifact).prunable] == [
        "conv.weight",
        "small.weight",
    ]
    assert calls == []


def test_sizes_of_a_network_that_is_code_are_known_without_it(saved, calls, tmp_path):
    sizes = _sizes(load_artifact(tmp_path / "model.safetensors"))
    assert sizes["bitmask_bytes"] < sizes["bytes"]
    assert calls == []


def test_building_a_network_that_is_code_takes_trust(saved, calls, tmp_path):
    path = tmp_path / "model.safetensors"
    for refused in (
        lambda: load_model(path),
        lambda: export_artifact(load_artifact(path), tmp_path / "out.onnx", "onnx"),
    ):
        with pytest.raises(SparsifyError, match=rf"'{NAME}'.*--trust") as caught:
            refused()
        assert str(path) in str(caught.value)
    assert calls == []
    feats = torch.randn(2, 20, 80)
    torch.testing.assert_close(load_model(path, trust=True)(feats), saved(feats))
    report = export_artifact(load_artifact(path, trust=True), tmp_path / "out.onnx", "onnx")
    assert report.parity.passed


def test_no_name_of_a_function_gets_past(sparse_model, tmp_path):
    path, marker = tmp_path / "model.safetensors", tmp_path / "ran"
    save_model(sparse_model, path)
    metadata = dict(load_artifact(path).metadata)
    harmful = {
        "name": "torch.fx.graph_module:reduce_graph_module",
        "options": {"body": {"_code": ""}, "import_block": f"open({str(marker)!r}, 'w')"},
    }
    for architecture in (harmful, {"name": "os:system", "options": {"command": f"touch {marker}"}}):
        metadata["architecture"] = json.dumps(architecture)
        tensors = load_file(path)
        save_file(tensors, path, metadata | seal(tensor_entries(metadata, arrays_of(tensors))))
        artifact = load_artifact(path)
        assert weights_table(artifact).parameters
        with pytest.raises(SparsifyError, match="--trust"):
            artifact.build()
    assert not marker.exists()


@pytest.mark.parametrize(
    "architecture",
    [
        {"name": "ecapa-tdnn", "options": {"channels": 8 * 10**8}},
        {"name": "resnet34", "options": {"blocks": [10**8] * 4}},
        {"name": "ecapa-tdnn", "options": {"self": None}},
    ],
)
def test_what_a_file_says_of_its_network_is_checked_before_it_is_built(
    sparse_model, tmp_path, architecture
):
    path = tmp_path / "model.safetensors"
    save_model(sparse_model, path)
    tensors, metadata = load_file(path), dict(load_artifact(path).metadata)
    metadata["architecture"] = json.dumps(architecture)
    save_file(tensors, path, metadata | seal(tensor_entries(metadata, arrays_of(tensors))))
    for use in (lambda: load_model(path), lambda: weights_table(load_artifact(path))):
        with pytest.raises(SparsifyError, match=r"does not fit|cannot be built|unknown option"):
            use()
