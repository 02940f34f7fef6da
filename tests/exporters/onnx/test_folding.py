import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from sparsify.exporters.onnx.folding import fold_norms

SHAPES = {
    "weight": (4, 4, 3),
    **dict.fromkeys(("bias", "norm.weight", "norm.bias", "norm.mean", "norm.var"), (4,)),
}
NORM = ["norm.weight", "norm.bias", "norm.mean", "norm.var"]


def convolution(source, output, weight="weight"):
    return helper.make_node("Conv", [source, weight, "bias"], [output], pads=[1, 1])


def norm(source, output):
    return helper.make_node("BatchNormalization", [source, *NORM], [output], epsilon=1e-5)


def graph(nodes, outputs=("y",)):
    generator = torch.Generator().manual_seed(0)
    tensors = [
        numpy_helper.from_array(torch.rand(shape, generator=generator).numpy() + 0.5, name)
        for name, shape in SHAPES.items()
    ]
    kind, shape = onnx.TensorProto.FLOAT, ["B", 4, "T"]
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", *outputs)]
    made = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def run(model):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).normal(size=(2, 4, 9)).astype(np.float32)
    return session.run(None, {"x": x})


def test_a_norm_behind_a_convolution_becomes_a_part_of_it():
    model = graph([convolution("x", "a"), norm("a", "y")])
    before = run(model)
    fold_norms(model)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    np.testing.assert_allclose(run(model), before, atol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([convolution("x", "a"), norm("a", "b"), convolution("b", "c"), norm("c", "y")], ["y"]),
        ([convolution("x", "a"), norm("a", "b"), convolution("b", "y")], ["y"]),
        ([convolution("x", "a"), norm("a", "y")], ["y", "a"]),
        (
            [
                helper.make_node("Neg", ["weight"], ["negated"]),
                convolution("x", "a", "negated"),
                norm("a", "y"),
            ],
            ["y"],
        ),
    ],
    ids=["both are used twice", "its weight is used again", "is an output", "computed weight"],
)
def test_a_norm_stays_where_somebody_else_would_notice(nodes, outputs):
    model = graph(nodes, outputs)
    norms = sum(node.op_type == "BatchNormalization" for node in nodes)
    before = run(model)
    fold_norms(model)
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == norms
    for one, other in zip(run(model), before, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
