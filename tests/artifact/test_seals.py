"""Files whose values have changed are refused; files that other tools changed are others' files."""

import random

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sparsify import SparsifyError, build_model
from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.exporters.export import export_artifact
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.speaker_model import load_speaker_model


def flipped(content, bit):
    """The same bytes but for one bit."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def values_of(path):
    """Where in a file the values of tensors are."""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        return range(8 + int.from_bytes(content[:8], "little"), len(content))
    raw = max((t.raw_data for t in onnx.load(path).graph.initializer), key=len)
    start = content.index(raw)
    return range(start, start + len(raw))


@pytest.mark.parametrize("name", ["dense", "bitmask", "coded", "onnx"])
def test_a_flipped_bit_in_the_values_is_damage(artifacts, tmp_path, name):
    source, rng = artifacts[name], random.Random(0)
    damaged, places = tmp_path / f"model{source.suffix}", values_of(source)
    for _ in range(25):
        bit = 8 * rng.choice(places) + rng.randrange(8)
        damaged.write_bytes(flipped(source.read_bytes(), bit))
        with pytest.raises(SparsifyError, match="is damaged"):
            load_artifact(damaged)


def test_flipped_statistics_are_damage(artifacts, tmp_path):
    proto = onnx.load(artifacts["onnx"])
    statistics = [t for t in proto.graph.initializer if t.name.endswith("running_var")]
    assert statistics
    statistics[0].raw_data = flipped(statistics[0].raw_data, 3)
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(SparsifyError, match="is damaged"):
        load_artifact(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["dense", "bitmask", "coded", "onnx"])
def test_no_flipped_bit_anywhere_changes_what_is_computed(artifacts, tmp_path, name):
    """It is refused, or the file is another's, or it makes no difference."""
    source, rng = artifacts[name], random.Random(1)
    content, changed = source.read_bytes(), tmp_path / f"model{source.suffix}"
    original = load_artifact(source)
    weights = original.build().state_dict()
    for _ in range(60):
        changed.write_bytes(flipped(content, rng.randrange(8 * len(content))))
        try:
            artifact = load_artifact(changed)
        except SparsifyError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        if artifact.architecture is not None:
            assert artifact.architecture == original.architecture
            assert artifact.front_end == original.front_end
            assert artifact.recipe == original.recipe
            found = artifact.build().state_dict()
            assert all(torch.equal(found[key], tensor) for key, tensor in weights.items())


def test_files_written_again_by_their_libraries_are_intact(artifacts, tmp_path):
    with safe_open(artifacts["bitmask"], "pt") as file:
        metadata = file.metadata()
    save_file(load_file(artifacts["bitmask"]), tmp_path / "again.safetensors", metadata)
    onnx.save(onnx.load(artifacts["onnx"]), tmp_path / "again.onnx")
    onnx.save(onnx.load(artifacts["onnx"]), tmp_path / "external.onnx", save_as_external_data=True)
    for name in ("again.safetensors", "again.onnx", "external.onnx"):
        artifact = load_artifact(tmp_path / name)
        assert artifact.build().state_dict().keys()
        assert weights_table(artifact) == weights_table(load_artifact(artifacts["dense"]))


def stored_otherwise(model):
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).ravel()
            tensor.ClearField("raw_data")
            tensor.float_data.extend(values)
    return model


def annotated(model):
    model.graph.name, model.graph.doc_string = "named", "noted"
    model.producer_name, model.ir_version = "a tool", 9
    for number, node in enumerate(model.graph.node):
        node.name, node.doc_string = f"node {number}", "noted"
        node.metadata_props.add(key="seen", value="yes")
    del model.graph.value_info[:]
    return model


@pytest.mark.parametrize(
    "tool",
    [onnx.shape_inference.infer_shapes, stored_otherwise, annotated],
    ids=lambda f: f.__name__,
)
def test_what_makes_no_difference_in_a_graph_is_none(artifacts, tmp_path, caplog, tool):
    onnx.save(tool(onnx.load(artifacts["onnx"])), tmp_path / "model.onnx")
    assert load_artifact(tmp_path / "model.onnx").architecture is not None
    assert not caplog.records


def test_other_connections_are_damage(artifacts, tmp_path):
    model = onnx.load(artifacts["onnx"])
    relus = [node for node in model.graph.node if node.op_type == "Relu"]
    relus[1].input[0] = relus[0].input[0]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(SparsifyError, match="is damaged"):
        load_artifact(tmp_path / "model.onnx")


def test_a_file_that_another_tool_changed_is_anothers(artifacts, tmp_path, caplog):
    halved, quantised = tmp_path / "half.safetensors", tmp_path / "half.onnx"
    with safe_open(artifacts["dense"], "pt") as file:
        metadata = file.metadata()
    halves = {name: t.half() for name, t in load_file(artifacts["dense"]).items()}
    save_file(halves, halved, metadata)
    proto = onnx.load(artifacts["onnx"])
    kept = proto.graph.initializer[0]
    copy = onnx.TensorProto()
    copy.CopyFrom(kept)
    copy.name = f"{kept.name}_of_mine"
    proto.graph.initializer.append(copy)
    onnx.save(proto, quantised)
    for path in (halved, quantised):
        caplog.clear()
        artifact = load_artifact(path)
        assert "changed by another tool" in caplog.text
        assert weights_table(artifact).sparsity > 0.7
        with pytest.raises(SparsifyError, match="does not say which network"):
            export_artifact(artifact, tmp_path / "out.safetensors", "safetensors")
    fresh = build_model("ecapa-tdnn", channels=16, aggregation_channels=64, embedding_dim=24)
    load_artifact(halved).load_into(fresh)  # like any state dict
    assert torch.equal(fresh.linear.weight, halves["linear.weight"].float())
    ours = load_speaker_model(artifacts["onnx"])
    others = load_speaker_model(quantised)
    assert others.front_end == ours.front_end
    feats = numpy_helper.to_array(numpy_helper.from_array(torch.randn(30, 80).numpy()))
    assert (others.embedder(feats) == ours.embedder(feats)).all()


@pytest.mark.parametrize("name", ["dense", "onnx"])
def test_twins_are_intact(artifacts, tmp_path, name):
    twin = tmp_path / f"twin{artifacts[name].suffix}"
    artifact = load_artifact(artifacts[name])
    exporter_of(artifact.format).twin(artifact, twin)
    assert weights_table(load_artifact(twin)).sparsity == 0


def test_files_of_earlier_versions_are_checked_by_the_digest_of_their_source(
    artifacts, tmp_path, caplog
):
    path = tmp_path / "model.safetensors"
    with safe_open(artifacts["dense"], "pt") as file:
        metadata = {k: v for k, v in file.metadata().items() if not k.endswith("_digest")}
        metadata["source_digest"] = file.metadata()["source_digest"]
    tensors = load_file(artifacts["dense"])
    save_file(tensors, path, metadata)
    assert load_artifact(path).architecture is not None
    tensors["linear.bias"][0] += 1
    save_file(tensors, path, metadata)
    with pytest.raises(SparsifyError, match="is damaged"):
        load_artifact(path)
    save_file({name: t.half() for name, t in tensors.items()}, path, metadata)
    assert load_artifact(path).architecture is None
    assert "changed by another tool" in caplog.text
