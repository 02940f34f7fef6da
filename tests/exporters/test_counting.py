"""What is told of a model file is told without PyTorch."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from sparsify.cli.main import main

OURS = ("dense", "bitmask", "coded", "run", "onnx")
TOLD = """
import json, sys
from click.testing import CliRunner
from sparsify.cli.main import main
told = [CliRunner().invoke(main, ["inspect", *words]).stdout for words in json.loads(sys.argv[1])]
print(json.dumps([told, [*sys.modules]]))
"""


@pytest.fixture
def files(artifacts, own_golden, tmp_path):
    """Models of ours and of others, in every format but PyTorch's."""
    weight = np.eye(80, 16, dtype=np.float32)
    save_file({"w": weight, "half": weight.astype(np.float16)}, tmp_path / "others.safetensors")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["feats", "w"], ["embs"])],
        "g",
        [helper.make_tensor_value_info("feats", TensorProto.FLOAT, ["B", "T", 80])],
        [helper.make_tensor_value_info("embs", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "others.onnx")
    shutil.copy(own_golden / "mnn_sparse.mnn", tmp_path / "others.mnn")
    return [*(artifacts[name] for name in OURS), *sorted(tmp_path.glob("others.*"))]


def test_models_are_told_without_torch(files, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = [[str(file), *how] for file in files for how in ([], ["--json"])]
    asked.append([str(files[0]), "--compare", str(files[1])])
    first = [CliRunner().invoke(main, ["inspect", *words]).stdout for words in asked]
    assert all(first)
    assert [each.name for each in (tmp_path / "cache" / "sparsify").iterdir()] == ["networks"]
    script = [sys.executable, "-c", TOLD, json.dumps(asked)]
    again = subprocess.run(script, capture_output=True, text=True, check=True)
    told, modules = json.loads(again.stdout)
    assert told == first
    assert {"torch", "onnxruntime"} & {*modules} == set()


def test_another_network_takes_torch_once_and_no_compiler(artifacts, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    script = [sys.executable, "-c", TOLD, json.dumps([["--json", str(artifacts["dense"])]])]
    for expected in ({"torch"}, set()):
        first = subprocess.run(script, capture_output=True, text=True, check=True)
        (told,), modules = json.loads(first.stdout)
        assert json.loads(told)["multiply_adds"] > 0
        assert {"torch", "torch._dynamo", "sympy"} & {*modules} == expected
