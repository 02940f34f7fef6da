"""Weights that a graph computes are told, so that no gate passes on their parts."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparsify.artifact.weights import read_weights
from sparsify.errors import SparsifyError

ZEROS = np.zeros((80, 16), np.float32)
ROW = np.ones((1, 16), np.float32)


def node(kind, inputs, output="w", **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def saved(path, nodes, functions=(), **arrays):
    """A graph of some operators and constants."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("feats", TensorProto.FLOAT, ("B", "T", 80))],
        [helper.make_tensor_value_info("embs", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions)
    onnx.save(model, path)
    return path


def left_out(path, nodes, use=None, **arrays):
    nodes = [*nodes, use or node("MatMul", "feats w", "embs")]
    return " ".join(read_weights(saved(path, nodes, **arrays)).left_out)


BIAS = np.ones(16, np.float32)
CODES = np.zeros((80, 16), np.int64)
COMPUTED = {
    "Add": ([node("Add", "a b")], {"a": ZEROS, "b": BIAS}),
    "low rank": (
        [node("MatMul", "b a", "ba"), node("Add", "z ba")],
        {"z": ZEROS, "b": np.ones((80, 1), np.float32), "a": ROW},
    ),
    "Concat": (
        [node("Concat", " ".join(f"r{n}" for n in range(80)), axis=0)],
        {f"r{n}": ROW for n in range(80)},
    ),
    "Mul": ([node("Mul", "a m")], {"a": ZEROS + 1, "m": ZEROS}),
    "ConstantOfShape": ([node("ConstantOfShape", "s")], {"s": [80, 16]}),
    "Expand": ([node("Expand", "a s")], {"a": ROW, "s": [80, 16]}),
    "Gather": ([node("Gather", "a i")], {"a": BIAS, "i": CODES}),
    "Where": ([node("Where", "c a b")], {"c": ZEROS > 0, "a": ZEROS, "b": BIAS}),
    "Cast": (
        [node("Cast", "a", "i", to=TensorProto.INT8), node("Cast", "i", to=TensorProto.FLOAT)],
        {"a": ZEROS + 0.5},
    ),
    "Slice": ([node("Slice", "a from to")], {"a": np.ones((99, 16), "f"), "from": [0], "to": [80]}),
    "behind a transposition": (
        [node("Neg", "a", "n"), node("Transpose", "n")],
        {"a": ZEROS.T.copy()},
    ),
    "a list of numbers": (
        [
            node("Constant", "", "l", value_ints=[1] * 1280),
            node("Cast", "l", "f", to=TensorProto.FLOAT),
            node("Reshape", "f s"),
        ],
        {"s": [80, 16]},
    ),
    "in circles": (
        [node("Add", "v a", "u"), node("Add", "u a", "v"), node("Neg", "u")],
        {"a": ZEROS},
    ),
    "an unknown operator": ([helper.make_node("Own", ["a"], ["w"], domain="own")], {"a": ZEROS}),
}


@pytest.mark.parametrize("case", COMPUTED)
def test_a_computed_weight_is_left_out(tmp_path, case):
    nodes, arrays = COMPUTED[case]
    assert "'w' is computed when the graph runs, by " in left_out(
        tmp_path / "m.onnx", nodes, **arrays
    )


@pytest.mark.parametrize(
    "use",
    [
        node("Gemm", "frames w", "embs"),
        node("Conv", "feats w", "embs"),
        node("ConvTranspose", "feats w", "embs"),
        node("LSTM", "feats w r", "embs"),
        node("LSTM", "feats r w", "embs"),
        node("Einsum", "feats w", "embs", equation="bti,io->bto"),
        helper.make_node("FusedMatMul", ["feats", "w"], ["embs"], domain="com.microsoft"),
        node("Mul", "feats w", "embs"),
    ],
    ids=lambda use: use.op_type,
)
def test_whatever_takes_it(tmp_path, use):
    found = left_out(tmp_path / "m.onnx", [node("Neg", "a")], use, a=ZEROS, r=ZEROS)
    assert "'w' is computed when the graph runs, by Neg" in found


def test_in_branches_and_functions_too(tmp_path):
    product = [node("Mul", "a m"), node("MatMul", "feats w", "inner")]
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    branch = helper.make_graph(product, "branch", [], [output])
    nodes = [
        node("ReduceMax", "feats", "loudest", keepdims=0),
        node("Cast", "loudest", "loud", to=TensorProto.BOOL),
    ]
    use = node("If", "loud", "embs", then_branch=branch, else_branch=branch)
    path = tmp_path / "m.onnx"
    assert "'w' is computed when" in left_out(path, nodes, use, a=ZEROS + 1, m=ZEROS)

    harmless = [node("Constant", "", "one", value_float=1.0), node("Add", "feats one", "inner")]
    branch = helper.make_graph(harmless, "branch", [], [output])
    use = node("If", "loud", "embs", then_branch=branch, else_branch=branch)
    assert not left_out(path, nodes, use)

    opsets = [helper.make_opsetid("", 18)]
    function = helper.make_function(
        "local",
        "masked",
        ["x", "a", "m"],
        ["y"],
        [node("Mul", "a m"), node("MatMul", "x w", "y")],
        opsets,
    )
    call = helper.make_node("masked", ["feats", "a", "m"], ["embs"], domain="local")
    weights = read_weights(saved(path, [call], [function], a=ZEROS + 1, m=ZEROS))
    assert "is computed when the graph runs, by Mul" in " ".join(weights.left_out)


def test_functions_that_call_each_other_without_end_are_refused(tmp_path):
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]

    def function(name, called):
        body = [
            helper.make_node(called, ["x"], ["z"], domain="local"),
            helper.make_node(called, ["z"], ["y"], domain="local"),
        ]
        return helper.make_function("local", name, ["x"], ["y"], body, opsets)

    for last in ("f0", "own"):
        functions = [function(f"f{n}", f"f{n + 1}" if n < 40 else last) for n in range(41)]
        call = helper.make_node("f0", ["feats"], ["embs"], domain="local")
        with pytest.raises(SparsifyError, match=r"functions make more than 200,000 operators"):
            read_weights(saved(tmp_path / "m.onnx", [call], functions, a=ZEROS))


NUMBERS = {"one": [1], "minus": [-1]}
FINE = {
    "handed on": (
        [
            node("Cast", "a", "h", to=TensorProto.FLOAT16),
            node("Cast", "h", "f", to=TensorProto.FLOAT),
            node("Reshape", "f s", "r"),
            node("Transpose", "r"),
        ],
        {"a": ZEROS, "s": [16, 80]},
    ),
    "activations": (
        [node("Transpose", "feats", "t", perm=[0, 2, 1]), node("MatMul", "feats t", "w")],
        {},
    ),
    "a bias": ([node("Unsqueeze", "b one", "c"), node("Add", "feats c")], {"b": np.ones(80, "f")}),
    "a computed bias": ([node("Neg", "b", "c"), node("Add", "feats c")], {"b": np.ones(80, "f")}),
    "a factor for each channel": (
        [node("Gather", "f one", "c"), node("Mul", "feats c")],
        {"f": np.ones((2, 80), "f")},
    ),
    "a shape": (
        [
            node("Shape", "feats", "shape"),
            node("Gather", "shape one", "frames"),
            node("Concat", "one frames minus", "wanted", axis=0),
            node("Reshape", "feats wanted"),
        ],
        {},
    ),
    "that nothing needs": ([node("Identity", "feats"), node("Neg", "a", "dead")], {"a": ZEROS}),
}


@pytest.mark.parametrize("case", FINE)
def test_what_is_counted_or_no_weight_is_not_told(tmp_path, case):
    nodes, arrays = FINE[case]
    found = left_out(tmp_path / "m.onnx", nodes, None, **NUMBERS, **arrays)
    assert "computed" not in found
    assert "shape" not in found
