"""Graphs of anybody: what is read, what is refused, and how much memory it takes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparsify.artifact import room
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.weights import read_weights
from sparsify.errors import SparsifyError

TEXT = np.array(["a", "b"], dtype=object)


def graph(path, initializers=(), sparse=(), nodes=()):
    """An ONNX file that adds these."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 10]) for n in "xy"]
    nodes = [*nodes, helper.make_node("Identity", ["x"], ["y"])]
    made = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], initializers, sparse_initializer=sparse
    )
    path.write_bytes(helper.make_model(made).SerializeToString())
    return path


def coo(values, indices, dims):
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, dtype=np.float32), "w"),
        numpy_helper.from_array(np.array(indices), "indices"),
        dims,
    )


@pytest.mark.parametrize(
    ("sparse", "message"),
    [
        (coo([1, 2], [0, 100], [10, 10]), "indices of sparse tensor 'w' do not fit"),
        (coo([1, 2], [0, -1], [10, 10]), "do not fit"),
        (coo([1, 2], [[0, 1], [0, 10]], [10, 10]), "do not fit"),
        (coo([1, 2], [[0, 1], [0, -3]], [10, 10]), "do not fit"),
        (coo([1, 2], [[0], [1]], [10, 10]), "cannot reshape"),
        (coo([1, 2], [0, 1, 2], [10, 10]), "cannot reshape"),
        (coo([1, 2], [[[0, 1], [0, 2]]], [10, 10]), r"."),
        (coo([[1, 2]], [0, 1], [10, 10]), "do not fit"),
        (coo([1, 2], [0.0, 1.0], [10, 10]), "do not fit"),
        (coo([1], [0], [10**6, 10**6]), "4000000000000 bytes once written out"),
        (coo([1], [0], [2**40, 2**40]), "cannot have shape"),
        (coo([1], [0], [0, 2**62, 2**62]), "cannot have shape"),
        (coo([1], [0], [-10, 10]), "cannot have shape"),
        (coo([1], [0], [1] * 1000), "1000 dimensions"),
    ],
)
def test_sparse_initializers_that_contradict_themselves_are_refused(tmp_path, sparse, message):
    with pytest.raises(SparsifyError, match=message):
        read_weights(graph(tmp_path / "m.onnx", sparse=[sparse]))


def bare(**fields):
    return TensorProto(name="w", **fields)


@pytest.mark.parametrize(
    "tensor",
    [
        bare(dims=[2], data_type=99, raw_data=bytes(8)),
        bare(dims=[2], data_type=0, raw_data=bytes(8)),
        bare(dims=[2], data_type=1, raw_data=bytes(7)),
        bare(dims=[3], data_type=1, raw_data=bytes(8)),
        bare(dims=[3], data_type=1, float_data=[1.0]),
        bare(dims=[10**12], data_type=1),
        bare(dims=[-1], data_type=1, raw_data=bytes(8)),
        bare(dims=[0, 2**62, 2**62], data_type=1),
    ],
)
def test_tensors_that_contradict_themselves_are_refused(tmp_path, tensor):
    with pytest.raises(SparsifyError, match=r"m\.onnx"):
        read_weights(graph(tmp_path / "m.onnx", [tensor]))


def test_what_is_no_weight_is_passed_over(tmp_path):
    eye = np.eye(10, dtype=np.float32)
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["inner"], value=numpy_helper.from_array(eye))],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [10, 10])],
    )
    nodes = [
        onnx.NodeProto(op_type="Constant"),
        helper.make_node("Constant", [], ["texts"], value=numpy_helper.from_array(TEXT)),
        helper.make_node("Constant", [], ["s"], sparse_value=coo([1, 2], [0, 99], [10, 10])),
        helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch),
    ]
    path = graph(tmp_path / "m.onnx", [numpy_helper.from_array(TEXT, "words")], nodes=nodes)
    arrays = read_weights(path).arrays
    assert list(arrays) == ["s"]
    assert np.argwhere(arrays["s"]).tolist() == [[0, 0], [9, 9]]


def external(location, size=4, **fields):
    tensor = bare(dims=[size], data_type=1, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **fields}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.fixture
def folder(tmp_path):
    """A model's folder, a file outside it, and links to it."""
    made = tmp_path / "model"
    made.mkdir()
    np.arange(8, dtype=np.float32).tofile(made / "data")
    np.arange(8, dtype=np.float32).tofile(tmp_path / "secret")
    (made / "link").symlink_to(tmp_path / "secret")
    (made / "up").symlink_to(tmp_path)
    return made


def test_external_data_beside_the_model_is_read(folder):
    path = graph(folder / "m.onnx", [external("data", offset=16, length=16)])
    assert read_weights(path).arrays["w"].tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../secret", "outside the folder"),
        ("{outside}", "outside the folder"),
        ("link", "outside the folder"),
        ("up/secret", "outside the folder"),
        ("/dev/zero", "outside the folder"),
        ("/proc/self/environ", "outside the folder"),
        ("nothing", "missing"),
        (".", "missing"),
        ("", "missing"),
        ("a\0b", "null"),
        ("x" * 5000, "cannot read|missing"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_external_data_elsewhere_is_never_read(folder, location, message, nested):
    tensor = external(location.format(outside=folder.parent / "secret"))
    inner = helper.make_graph([], "inner", [], [], [tensor])
    nodes = [helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)]
    path = graph(folder / "m.onnx", *([(), (), nodes] if nested else [[tensor]]))
    with pytest.raises(SparsifyError, match=message):
        read_weights(path)


@pytest.mark.parametrize(
    "fields", [{"offset": 40}, {"offset": -1}, {"length": 64}, {"length": "x"}, {"length": 4}]
)
def test_external_data_that_is_not_there_is_refused(folder, fields):
    with pytest.raises(SparsifyError, match=r"m\.onnx"):
        read_weights(graph(folder / "m.onnx", [external("data", **fields)]))


def test_one_file_read_again_and_again_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(room, "_FREE", 0)
    monkeypatch.setattr(room, "_TIMES", 2)
    np.zeros(10_000, np.float32).tofile(folder / "data")
    path = graph(folder / "m.onnx", [external("data", 10_000) for _ in range(10)])
    with pytest.raises(SparsifyError, match="absurd for a file of that size"):
        read_weights(path)


@pytest.mark.filterwarnings("error")
def test_integers_of_no_dimension_and_of_odd_scales_are_read(tmp_path):
    arrays = {
        "one": np.int8(7),
        "many": np.arange(100, dtype=np.int8).reshape(10, 10),
        "half": np.float16(0.1),
        "huge": np.float32(1e30),
        "zero": np.int8(3),
        "odd": np.float32(np.nan),
    }
    uses = ("one half zero", "many half zero", "many huge zero", "many half odd")
    nodes = [
        helper.make_node("DequantizeLinear", names.split(), [f"out{number}"])
        for number, names in enumerate(uses)
    ]
    initializers = [numpy_helper.from_array(np.asarray(each), n) for n, each in arrays.items()]
    artifact = load_artifact(graph(tmp_path / "m.onnx", initializers, nodes=nodes))
    assert artifact.state["one"].item() == pytest.approx((7 - 3) * 0.1, rel=1e-3)
    assert any("'many'" in each for each in artifact.left_out)
