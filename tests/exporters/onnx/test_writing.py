import json
import logging
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.errors import SparsifyError
from sparsify.exporters.onnx import writing
from sparsify.exporters.onnx.writing import export_onnx, replace_weights
from sparsify.models.registry import build_model
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.counting import sparsity_table
from sparsify.sparsity.prunable import prunable_parameters


@pytest.fixture(scope="module")
def proto(artifacts):
    return onnx.load(artifacts["onnx"])


@pytest.fixture(scope="module")
def initializers(proto):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


@pytest.fixture(scope="module")
def session(artifacts):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        artifacts["onnx"], options, providers=["CPUExecutionProvider"]
    )


@pytest.fixture
def metadata(proto):
    return {each.key: each.value for each in proto.metadata_props}


def test_the_graph_has_the_promised_interface(proto):
    (feats,), (embs,) = proto.graph.input, proto.graph.output
    axes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (feats, embs)
    ]
    assert (feats.name, embs.name) == ("feats", "embs")
    assert axes == [["B", "T", 80], ["B", 24]]
    assert (proto.opset_import[0].version, proto.ir_version) == (18, 8)
    assert len(proto.opset_import) == 1


def test_initializers_are_the_state_dict_bit_by_bit(initializers, sparse_model):
    for name, tensor in sparse_model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert initializers[name].shape == tuple(tensor.shape)
            assert initializers[name].tobytes() == tensor.numpy().tobytes(), name


def test_weights_are_stored_once(initializers, sparse_model):
    state = sum(t.nbytes for t in sparse_model.state_dict().values())
    assert sum(array.nbytes for array in initializers.values()) <= state


def test_zeros_are_counted_as_in_the_model(initializers, sparse_model, metadata):
    table = sparsity_table(sparse_model)
    for layer in table.layers:
        assert np.count_nonzero(initializers[layer.name]) == layer.nonzero
    expected = {layer.name: layer.nonzero for layer in table.prunable}
    assert json.loads(metadata["sparsify.nonzero"]) == expected


@pytest.mark.parametrize("frames", [2, 3, 20, 98, 351])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_onnxruntime_computes_the_same(session, sparse_model, batch, frames):
    feats = 3 * torch.randn(batch, frames, 80)
    with torch.inference_mode():
        expected = sparse_model(feats).numpy()
    (found,) = session.run(["embs"], {"feats": feats.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_metadata_is_what_sherpa_onnx_reads(metadata):
    ours = {key for key in metadata if key.startswith("sparsify.")}
    assert {key: value for key, value in metadata.items() if key not in ours} == {
        "framework": "wespeaker",
        "language": "unknown",
        "output_dim": "24",
        "sample_rate": "16000",
        "normalize_samples": "0",
        "feature_normalize_type": "global-mean",
    }


def test_the_graph_is_made_of_common_operators(proto):
    operators = Counter(node.op_type for node in proto.graph.node)
    assert not {name for name in operators if "Sequence" in name or name == "Identity"}
    assert operators["BatchNormalization"] == 29  # batch norm stays as it is


def test_the_file_does_not_tell_where_it_was_made(artifacts):
    content = artifacts["onnx"].read_bytes()
    assert b"stack_trace" not in content
    assert b".py" not in content


def test_negative_zeros_do_not_reach_the_graph(tmp_path, artifacts, monkeypatch, sparse_model):
    seen = {}

    def graph(model, artifact):
        seen.update(model.state_dict())
        return onnx.load(artifacts["onnx"])

    artifact = load_artifact(artifacts["dense"])
    artifact.state["linear.weight"][artifact.state["linear.weight"] == 0] = -0.0
    monkeypatch.setattr(writing, "_graph", graph)
    export_onnx(artifact, tmp_path / "m.onnx")
    assert not torch.signbit(seen["linear.weight"][seen["linear.weight"] == 0]).any()


@pytest.mark.parametrize("change", ["value", "sign", "shape", "name"])
def test_a_weight_that_did_not_survive_is_an_error(tmp_path, artifacts, monkeypatch, change):
    def graph(model, artifact):
        proto = onnx.load(artifacts["onnx"])
        (tensor,) = (t for t in proto.graph.initializer if t.name == "layer1.conv.weight")
        array = numpy_helper.to_array(tensor).copy()
        zero = np.argwhere(array == 0)[0]
        array[tuple(zero)] = {"value": 1e-30, "sign": -0.0}.get(change, 0)
        name = "renamed" if change == "name" else tensor.name
        array = array.transpose(1, 0, 2) if change == "shape" else array
        tensor.CopyFrom(numpy_helper.from_array(array, name))
        return proto

    monkeypatch.setattr(writing, "_graph", graph)
    with pytest.raises(SparsifyError, match=r"'layer1\.conv\.weight'"):
        export_onnx(load_artifact(artifacts["dense"]), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_contradicts_itself_is_one_sentence(tmp_path, artifacts, monkeypatch):
    def graph(model, artifact):
        proto = onnx.load(artifacts["onnx"])
        proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
        return proto

    monkeypatch.setattr(writing, "_graph", graph)
    with pytest.raises(SparsifyError, match=r"exporter of torch .* contradicts itself") as caught:
        export_onnx(load_artifact(artifacts["dense"]), tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_networks_that_cannot_be_exported_are_one_sentence(tmp_path):
    # Its channels are not those of any feature.
    model = build_model("torch.nn:Conv1d", in_channels=3, out_channels=2, kernel_size=1)
    save_model(model, tmp_path / "m.safetensors")
    with pytest.raises(SparsifyError, match="cannot be exported to ONNX") as caught:
        export_onnx(load_artifact(tmp_path / "m.safetensors", trust=True), tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_replacing_weights_changes_nothing_else(tmp_path, artifacts, initializers, sparse_model):
    name = next(iter(prunable_parameters(sparse_model)))
    ones = torch.ones(initializers[name].shape)
    replace_weights(artifacts["onnx"], tmp_path / "m.onnx", {name: ones, "unknown": ones})
    after = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer
    }
    assert after.keys() == initializers.keys()
    assert np.all(after.pop(name) == 1)
    assert all(np.array_equal(array, initializers[key]) for key, array in after.items())


@pytest.mark.parametrize(
    ("name", "options", "shortest", "front_end", "warning"),
    [
        (
            *("resnet18", {"channels": 4}, 2),
            FrontEnd(preset="wespeaker", sample_rate=8000, num_mel_bins=24),
            "'wespeaker', but sherpa-onnx always computes 'sherpa'",
        ),
        (
            *("ecapa-tdnn", {"channels": 16, "variant": "speechbrain"}, 5),
            FrontEnd(preset="speechbrain", num_mel_bins=24),
            "sherpa-onnx cannot compute the front end 'speechbrain'",
        ),
    ],
)
def test_other_architectures_and_front_ends(
    tmp_path, capfd, caplog, name, options, shortest, front_end, warning
):
    model = build_model(name, feature_dim=24, embedding_dim=8, **options).eval()
    save_model(model, tmp_path / "m.safetensors", Recipe(front_end=front_end))
    with caplog.at_level(logging.WARNING, logger="sparsify"):
        export_onnx(load_artifact(tmp_path / "m.safetensors"), tmp_path / "m.onnx")
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "torch" not in printed.err
    (record,) = (each for each in caplog.records if each.name.startswith("sparsify"))
    assert warning in record.getMessage()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.safetensors"]
    assert load_artifact(tmp_path / "m.onnx").front_end == front_end
    properties = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert properties["sample_rate"] == str(front_end.sample_rate)
    if front_end.preset == "speechbrain":  # sherpa-onnx must refuse it
        assert not {"framework", "feature_normalize_type"} & properties.keys()
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for batch, frames in ((1, shortest), (3, 9), (2, 57)):
        feats = torch.randn(batch, frames, 24)
        with torch.inference_mode():
            expected = model(feats).numpy()
        (found,) = session.run(["embs"], {"feats": feats.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
