"""Multiply-adds of graphs: those of the network they came from, or a word why not."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparsify.artifact.loading import load_artifact
from sparsify.errors import SparsifyError
from sparsify.exporters.counting import work_of
from sparsify.exporters.onnx.work import work_in
from sparsify.sparsity.work import Work


@pytest.mark.parametrize("name", ["dense", "onnx"])
def test_a_graph_has_the_work_of_its_network(artifacts, name):
    artifact = load_artifact(artifacts[name])
    graph = load_artifact(artifacts["onnx"])
    for frames in (2, 200):
        assert work_in(graph, frames) == in_a_graph(artifact, frames)


def test_a_graph_that_another_tool_has_changed_is_counted(artifacts, tmp_path):
    graph = onnx.load(artifacts["onnx"])
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "m.onnx")
    ours, others = (load_artifact(each) for each in (artifacts["onnx"], tmp_path / "m.onnx"))
    assert others.architecture is None
    assert work_of(others, 200) == in_a_graph(ours, 200)


def in_a_graph(artifact, frames):
    """The work of the network, but for what a graph multiplies in every frame though constant."""
    weight = artifact.state["pool.linear1.weight"]
    whole = Work(frames * weight.numel(), frames * int((weight == 0).sum()))
    work = work_of(artifact, frames)
    assert work["pool.linear1.weight"].multiply_adds < whole.multiply_adds
    return work | {"pool.linear1.weight": whole}


WEIGHT = np.arange(80 * 16, dtype=np.float32).reshape(80, 16) % 5


def saved(path, nodes, weight=WEIGHT, dims=("B", "T", 80), **others):
    arrays = {"w": weight, **others}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("feats", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("embs", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def work(path, frames=200):
    artifact = load_artifact(path)
    return work_of(artifact, frames)


def node(kind, inputs, output="embs", **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def test_a_matrix_is_found_behind_what_hands_it_on(tmp_path):
    zeros = int((WEIGHT == 0).sum())
    passing = [
        node("Transpose", "w", "t", perm=[1, 0]),
        node("Transpose", "t", "u", perm=[1, 0]),
        node("MatMul", "feats u"),
    ]
    for nodes in ([node("MatMul", "feats w")], passing):
        path = saved(tmp_path / "m.onnx", nodes)
        assert work(path) == {"w": Work(200 * 80 * 16, 200 * zeros)}


def test_a_shape_that_the_graph_computes_is_computed(tmp_path):
    nodes = [
        node("Shape", "feats", "shape"),
        node("Gather", "shape one", "frames"),
        node("Div", "frames two", "half"),
        node("Concat", "half minus", "wanted", axis=0),
        node("Reshape", "feats wanted", "pairs"),
        node("MatMul", "pairs w"),
    ]
    numbers = {"one": [1], "two": [2], "minus": [-1]}
    weight = np.ones((160, 16), np.float32)
    arrays = {name: np.array(value) for name, value in numbers.items()}
    path = saved(tmp_path / "m.onnx", nodes, weight, **arrays)
    assert work(path) == {"w": Work(100 * 160 * 16, 0)}


def test_integers_are_counted_against_their_zero_point(tmp_path):
    levels = (np.arange(80 * 16) % 5).astype(np.uint8).reshape(80, 16)
    scales = {"s": np.float32(0.5), "z": np.uint8(2)}
    nodes = [node("DequantizeLinear", "q s z", "d"), node("MatMul", "feats d")]
    path = saved(tmp_path / "m.onnx", nodes, np.float32(0), q=levels, **scales)
    expected = {"q": Work(200 * 80 * 16, 200 * int((levels == 2).sum()))}
    assert work(path) == expected


@pytest.mark.parametrize(
    ("nodes", "options", "words"),
    [
        ([node("MatMul", "feats w")], {"dims": ("B", 300, 80)}, r"\[B, 300, 80\] does not take"),
        ([node("MatMul", "feats w")], {"dims": ("B", 80)}, r"not \[B, T, bins\]"),
        ([node("Mul", "feats w")], {}, "'w' is used by Mul, which is not counted"),
        ([node("Identity", "feats")], {}, "'w' is used where it is not counted"),
        (
            [node("Abs", "w", "a"), node("MatMul", "feats a")],
            {},
            "multiplies by 'a', which Abs makes of weights",
        ),
        (
            [node("NonZero", "feats", "n"), node("Cast", "n", "f", to=1), node("MatMul", "f w")],
            {},
            "cannot be inferred",
        ),
    ],
)
def test_what_cannot_be_counted_says_why(tmp_path, nodes, options, words):
    with pytest.raises(SparsifyError, match=words):
        work(saved(tmp_path / "m.onnx", nodes, **options))
