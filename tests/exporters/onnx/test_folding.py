import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from sparsify.exporters.onnx.folding import fold_dead_channels, fold_norms

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


def values(model, name):
    return numpy_helper.to_array(
        next(each for each in model.graph.initializer if each.name == name)
    )


def replaced(model, **tensors):
    for each in model.graph.initializer:
        if each.name in tensors:
            each.CopyFrom(numpy_helper.from_array(tensors[each.name], each.name))
    return model


CHAIN = [convolution("x", "a"), helper.make_node("Relu", ["a"], ["b"]), norm("b", "y")]


def with_dead_channels(nodes, outputs=("y",)):
    """The first channel has no weights and a bias, the second neither, and both no variance."""
    model = graph(nodes, outputs)
    live = np.array([0, 0, 1, 1], np.float32)
    weight, bias = values(model, "weight") * live[:, None, None], values(model, "bias").copy()
    bias[1] = -1
    means = np.where(live > 0, values(model, "norm.mean"), np.maximum(bias, 0))
    return replaced(
        model, weight=weight, bias=bias, **{"norm.var": live, "norm.mean": means.astype("f")}
    )


def test_what_a_dead_channel_puts_out_is_added_behind_its_norm():
    model = with_dead_channels(CHAIN)
    before = run(model)
    fold_dead_channels(model)
    np.testing.assert_allclose(run(model), before, atol=1e-5)
    assert not values(model, "bias")[:2].any()
    assert values(model, "bias")[2:].all()
    # Whatever rounding adds to the channel is multiplied by this, which was up to 1/sqrt(1e-5).
    assert not values(model, "norm.weight")[:2].any()


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        (CHAIN, ("y", "b")),
        ([*CHAIN[:2], norm("b", "c"), norm("c", "y")], ("y",)),
        ([*CHAIN, helper.make_node("Neg", ["bias"], ["z"])], ("y",)),
    ],
    ids=["its values are used", "its norm is used again", "its bias is used again"],
)
def test_a_dead_channel_stays_where_somebody_else_would_notice(nodes, outputs):
    model = with_dead_channels(nodes, outputs)
    before = model.SerializeToString()
    fold_dead_channels(model)
    assert model.SerializeToString() == before
