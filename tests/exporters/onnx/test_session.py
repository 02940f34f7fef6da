import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sparsify.errors import SparsifyError
from sparsify.exporters.onnx.session import onnx_network
from sparsify.exporters.speaker_model import load_speaker_model


def averaging_model(path, inputs, operator="ReduceMean"):
    """An ONNX model of others: the mean over the second axis of its first input."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)
    node = helper.make_node(operator, [next(iter(inputs))], ["embedding"], axes=[1], keepdims=0)
    graph = helper.make_graph([node], "g", values, [output])
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def test_networks_embed_batches(artifacts):
    feats = np.random.default_rng(0).normal(size=(3, 57, 80)).astype(np.float32)
    embeddings = onnx_network(artifacts["onnx"], threads=1)(feats)
    embed = load_speaker_model(artifacts["onnx"], 1).embedder
    np.testing.assert_allclose(embeddings, [embed(each) for each in feats], atol=1e-5)


def test_onnx_models_of_others_embed(tmp_path):
    path = averaging_model(tmp_path / "m.onnx", {"x": ["N", "T", 80]})
    feats = np.random.default_rng(0).normal(size=(31, 80)).astype(np.float32)
    np.testing.assert_allclose(
        load_speaker_model(path, 1).embedder(feats), feats.mean(0), atol=1e-6
    )


@pytest.mark.parametrize(
    ("inputs", "described"),
    [
        ({"x": ["N", "T", 80, 1]}, r"or samples \[B, samples\], not x \['N', 'T', 80, 1\]"),
        ({"feats": ["N", "T", 40]}, r"\[B, T, 80\] or .* not feats \['N', 'T', 40\]"),
        ({"x": ["N", "T", 80], "length": ["N"]}, r"not x .*, length"),
    ],
)
def test_onnx_models_that_do_not_embed_features_are_refused(tmp_path, inputs, described):
    path = averaging_model(tmp_path / "m.onnx", inputs)
    with pytest.raises(SparsifyError, match=described):
        load_speaker_model(path)


def test_features_that_do_not_fit_are_named(tmp_path):
    path = averaging_model(tmp_path / "m.onnx", {"x": [1, 98, 80]})
    with pytest.raises(SparsifyError, match=r"m\.onnx.*\(1, 20, 80\)") as caught:
        load_speaker_model(path).embedder(np.zeros((20, 80), dtype=np.float32))
    assert "\n" not in str(caught.value)


def test_graphs_that_onnxruntime_cannot_load_are_one_sentence(tmp_path):
    path = averaging_model(tmp_path / "m.onnx", {"x": ["N", "T", 80]}, operator="NoSuchOperator")
    with pytest.raises(SparsifyError, match=r"cannot load .*m\.onnx") as caught:
        onnx_network(path)
    assert "\n" not in str(caught.value)


def test_onnx_models_that_give_something_else_are_refused(tmp_path):
    path = averaging_model(tmp_path / "m.onnx", {"x": ["N", "T", 80]})
    model = onnx.load(path)
    model.graph.node[0].attribute[0].ints[:] = [2]  # one number per frame
    model.graph.node[0].attribute[1].i = 1
    onnx.save(model, path)
    with pytest.raises(SparsifyError, match="does not embed utterances"):
        load_speaker_model(path, 1).embedder(np.zeros((31, 80), dtype=np.float32))


def test_graphs_that_go_in_circles_are_one_sentence_and_nothing_else(tmp_path, capfd):
    path = averaging_model(tmp_path / "m.onnx", {"feats": ["B", "T", 80]})
    model = onnx.load(path)
    model.graph.node.add(op_type="Relu", input=["b"], output=["a"])
    model.graph.node.add(op_type="Relu", input=["a"], output=["b"])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SparsifyError, match="onnxruntime cannot load"):
        onnx_network(path)
    assert capfd.readouterr() == ("", "")
