"""A graph that is kept serves other weights, and is never trusted."""

import logging

import onnx
import pytest
import torch

from sparsify import build_model, save_model
from sparsify.artifact.loading import load_artifact
from sparsify.exporters.onnx import graphs, tracing
from sparsify.exporters.onnx.writing import export_onnx
from sparsify.recipe.sections import FrontEnd
from sparsify.user_cache import keep

OPTIONS = {"channels": 2, "feature_dim": 16, "embedding_dim": 4}


def model_file(path, seed):
    torch.manual_seed(seed)
    save_model(build_model("resnet18", **OPTIONS).eval(), path)
    return path


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """What the exporter makes of a network with the first weights; to trace it takes seconds."""
    path = model_file(tmp_path_factory.mktemp("traced") / "m.safetensors", 0)
    return tracing.traced_graph(load_artifact(path).build(), 16, path)


@pytest.fixture
def traces(traced, tmp_path, monkeypatch):
    """How often a network was traced, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    times = []

    def trace(model, bins, source):
        times.append(source)
        return graphs._with(model.state_dict(), onnx.ModelProto.FromString(fresh))

    fresh = traced.SerializeToString()
    monkeypatch.setattr(tracing, "traced_graph", trace)
    return times


def exported(tmp_path, seed):
    file = model_file(tmp_path / "m.safetensors", seed)
    export_onnx(load_artifact(file), tmp_path / "m.onnx")
    return (tmp_path / "m.onnx").read_bytes()


def kept_file(tmp_path):
    (file,) = (tmp_path / "cache" / "sparsify" / "graphs").iterdir()
    return file


def test_other_weights_need_no_other_trace(tmp_path, traces, caplog):
    first, other = exported(tmp_path, 0), exported(tmp_path, 1)
    assert len(traces) == 1
    assert first != other
    assert exported(tmp_path, 0) == first
    kept_file(tmp_path).unlink()
    assert exported(tmp_path, 1) == other
    assert len(traces) == 2
    assert not caplog.text


def test_what_is_kept_has_no_weights(tmp_path, traces):
    exported(tmp_path, 0)
    proto = onnx.ModelProto.FromString(kept_file(tmp_path).read_bytes()[:-32])
    weights = load_artifact(tmp_path / "m.safetensors").state
    sizes = {tensor.name: tensor.ByteSize() for tensor in proto.graph.initializer}
    assert sizes.keys() & weights.keys()
    assert max(sizes[name] for name in sizes.keys() & weights.keys()) < 100


def other_activation(proto):
    for node in proto.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Tanh"


def other_shape(proto):
    next(each for each in proto.graph.initializer if each.name == "bn1.bias").dims[0] = 3


def outside(proto):
    tensor = next(each for each in proto.graph.initializer if each.name == "bn1.bias")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def no_graph(proto):
    proto.Clear()


@pytest.mark.parametrize("spoil", [other_activation, other_shape, outside, no_graph])
def test_a_graph_of_something_else_is_thrown_away(tmp_path, traces, caplog, spoil):
    right = exported(tmp_path, 0)
    file = kept_file(tmp_path)
    whole = file.read_bytes()
    proto = onnx.ModelProto.FromString(whole[:-32])
    spoil(proto)
    keep(proto.SerializeToString(), file)
    with caplog.at_level(logging.WARNING, logger="sparsify"):
        assert exported(tmp_path, 0) == right
    assert len(traces) == 2
    assert "not used but made anew" in caplog.text
    assert file.read_bytes() == whole


def test_bytes_that_are_no_graph_are_thrown_away(tmp_path, traces):
    right = exported(tmp_path, 0)
    keep(b"\xff" * 100, kept_file(tmp_path))
    assert exported(tmp_path, 0) == right
    assert len(traces) == 2


def test_whatever_a_graph_depends_on_has_a_graph_of_its_own():
    def key(name, bins=16, **options):
        model = build_model(name, **(OPTIONS | options))
        return graphs._key(model.architecture.to_json(), model, FrontEnd(num_mel_bins=bins))

    keys = [key("resnet18"), key("resnet34"), key("resnet18", channels=3), key("resnet18", bins=24)]
    assert len({*keys}) == 4
    assert key("resnet18") == keys[0]


def test_graphs_of_code_are_not_kept(tmp_path, traces):
    model = build_model("sparsify.models.resnet:ResNet", blocks=(2, 2, 2, 2), **OPTIONS)
    save_model(model.eval(), tmp_path / "m.safetensors")
    for _ in range(2):
        export_onnx(load_artifact(tmp_path / "m.safetensors", trust=True), tmp_path / "m.onnx")
    assert len(traces) == 2
    assert not (tmp_path / "cache").exists()
