"""Copies of our graphs that other tools have changed: counted, run, and not taken for ours."""

import json
import logging
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.cli.main import main
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.verification.calibration import Calibration, read_calibration, write_calibration
from sparsify.verification.scoring import Scoring

FLAT = "pool.linear2.weight_quantized"
FEATS = np.random.default_rng(0).normal(scale=3, size=(60, 80)).astype(np.float32)


class Speech(CalibrationDataReader):
    def __init__(self):
        self.left = [FEATS[None], FEATS[None, :30]]

    def get_next(self):
        return {"feats": self.left.pop()} if self.left else None


def dynamic(source, output):
    quantize_dynamic(source, output, weight_type=QuantType.QUInt8)


def channelwise(source, output):
    options = {"quant_format": QuantFormat.QDQ, "per_channel": True}
    kinds = {"weight_type": QuantType.QUInt8, "activation_type": QuantType.QUInt8}
    layers = ["Conv", "Gemm"]
    quantize_static(source, output, Speech(), op_types_to_quantize=layers, **options, **kinds)


def operators(source, output):
    options = {"quant_format": QuantFormat.QOperator, "op_types_to_quantize": ["Conv", "Gemm"]}
    quantize_static(source, output, Speech(), **options)


def extended(source, output):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(output)
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def halved(source, output):
    onnx.save(convert_float_to_float16(onnx.load(source)), output)


TOOLS = (dynamic, channelwise, operators, extended, halved)


@pytest.fixture(scope="module")
def graphs(artifacts, tmp_path_factory):
    """One for each tool, by its name."""
    folder = tmp_path_factory.mktemp("graphs")
    logging.disable(logging.WARNING)
    try:
        for tool in TOOLS:
            tool(artifacts["onnx"], folder / f"{tool.__name__}.onnx")
    finally:
        logging.disable(logging.NOTSET)
    return {tool.__name__: folder / f"{tool.__name__}.onnx" for tool in TOOLS}


def large_weights(model):
    """What counts as prunable where the network is not known."""
    named = model.named_parameters()
    return {name: each for name, each in named if each.dim() > 1 and each.numel() > 64}


@pytest.mark.parametrize("tool", [tool.__name__ for tool in TOOLS])
def test_it_is_counted_and_run_but_is_another_model(graphs, artifacts, sparse_model, tool):
    ours, others = load_speaker_model(artifacts["onnx"]), load_speaker_model(graphs[tool])
    one, other = ours.embedder(FEATS), others.embedder(FEATS)
    assert one @ other > 0.98 * np.linalg.norm(one) * np.linalg.norm(other)
    table = weights_table(others.artifact)
    weights = large_weights(sparse_model)
    parameters = sum(weight.numel() for weight in weights.values())
    assert sum(layer.parameters for layer in table.prunable) == parameters
    assert not others.artifact.left_out
    nonzero = sum(int(weight.count_nonzero()) for weight in weights.values())
    found = sum(layer.nonzero for layer in table.prunable)
    assert 0.97 * nonzero < found <= nonzero  # small weights have become zero
    # It still carries what was said of the model before.
    carried = others.artifact.metadata
    assert carried["source_digest"] == ours.artifact.metadata["source_digest"] == ours.digest
    assert others.digest != ours.digest


@pytest.mark.parametrize("tool", ["dynamic", "channelwise", "operators"])
def test_integers_count_against_their_zero_point(graphs, sparse_model, tool):
    stored = {
        each.name: numpy_helper.to_array(each) for each in onnx.load(graphs[tool]).graph.initializer
    }
    found = {layer.name: layer for layer in weights_table(load_artifact(graphs[tool])).prunable}
    points = set()
    for name in large_weights(sparse_model):
        turned = f"{name}_Transposed"  # by some versions
        called = turned if f"{turned}_quantized" in stored else name
        integers, zero = stored[f"{called}_quantized"], stored[f"{called}_zero_point"]
        points.update(zero.reshape(-1).tolist())
        zero = zero.reshape(-1, *[1] * (integers.ndim - 1)).astype(int)
        assert found[f"{called}_quantized"].nonzero == np.count_nonzero(integers - zero), name
    assert points == {0} if tool == "operators" else max(points) > 0


def test_calibrations_and_means_are_those_of_another_model(graphs, artifacts, tmp_path):
    ours, others = load_speaker_model(artifacts["onnx"]), load_speaker_model(graphs["dynamic"])
    write_calibration(Calibration({"eer": 0.5}, Scoring(), ours.digest), tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json", ours.digest).thresholds == {"eer": 0.5}
    with pytest.raises(Exception, match="was made with another model: calibrate this one"):
        read_calibration(tmp_path / "c.json", others.digest)
    artifact = replace(
        others.artifact, metadata={**others.artifact.metadata, "embedding_mean": "[1]"}
    )
    assert replace(others, artifact=artifact).embedding_mean is None


@pytest.mark.parametrize("tool", ["dynamic", "channelwise"])
def test_its_twin_has_no_zeros(graphs, tmp_path, tool):
    artifact = load_artifact(graphs[tool])
    exporter_of(artifact.format).twin(artifact, tmp_path / "twin.onnx")
    assert weights_table(load_artifact(tmp_path / "twin.onnx")).sparsity == 0
    assert np.isfinite(load_speaker_model(tmp_path / "twin.onnx").embedder(FEATS)).all()


def unused(graph):
    zeros = np.zeros((64, 64), np.float32)
    graph.initializer.append(numpy_helper.from_array(zeros, "padding"))


def useless(graph):
    unused(graph)
    graph.node.append(helper.make_node("Identity", ["padding"], ["nothing"]))


def listed(graph):
    flat(graph)
    tensor = next(each for each in graph.initializer if each.name == FLAT)
    values = numpy_helper.to_array(tensor).astype(float).tolist()
    graph.node.insert(0, helper.make_node("Constant", [], [FLAT], value_floats=values))
    graph.initializer.remove(tensor)


def computed(graph):
    """A zero point that is only known when the graph runs."""
    node = next(each for each in graph.node if each.op_type == "ConvInteger")
    graph.node.insert(0, helper.make_node("Identity", [node.input[3]], ["zero"]))
    node.input[3] = "zero"


def flat(graph):
    tensor = next(each for each in graph.initializer if each.name == FLAT)
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(array.reshape(-1), tensor.name))
    graph.initializer.append(numpy_helper.from_array(np.array(array.shape), "shape"))
    graph.node.insert(0, helper.make_node("Reshape", [tensor.name, "shape"], ["matrix"]))
    for node in list(graph.node)[1:]:
        for place, name in enumerate(node.input):
            node.input[place] = "matrix" if name == tensor.name else name


def inside(graph):
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "hidden")
    output = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, (64, 64))
    branch = helper.make_graph([], "branch", [], [output], [weight])
    condition = numpy_helper.from_array(np.array(True), "condition")
    graph.initializer.append(condition)
    branches = {"then_branch": branch, "else_branch": branch}
    graph.node.append(helper.make_node("If", ["condition"], ["nothing"], **branches))


def merged(graph):
    """Two weights of equal values become one, as tools do that save space."""
    first, second = (f"layer{n}.se_res2block.1.convs.5.weight_quantized" for n in (2, 3))
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = first if name == second else name
    graph.initializer.remove(next(each for each in graph.initializer if each.name == second))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unused, "no output depends on 'padding'"),
        (useless, "no output depends on 'padding'"),
        (listed, f"'{FLAT}' gets its shape only when the graph runs"),
        (computed, "holds integers, whose zero point is not known"),
        (flat, f"'{FLAT}' gets its shape only when the graph runs"),
        (inside, "'hidden' lies in a part of the graph that is not read"),
        (merged, "which sparsify wrote, is not found"),
    ],
)
def test_no_gate_passes_where_something_is_left_out(graphs, tmp_path, change, words):
    path = tmp_path / "changed.onnx"
    model = onnx.load(graphs["dynamic"])
    change(model.graph)
    onnx.save(model, path)

    def inspect(*options):
        return CliRunner().invoke(main, ["inspect", str(path), *options])

    for option, bound in (("--min-sparsity", "0.1"), ("--max-sparsity", "1")):
        result = inspect(option, bound, "--json")
        assert result.exit_code == 1
        printed = json.loads(result.stdout)
        assert not printed["gates"][0]["passed"]
        assert words in " ".join(printed["left_out"])
        assert words in result.stderr
    assert "In doubt: " in inspect().stdout


def test_a_weight_that_poses_as_a_scale_is_counted(artifacts, tmp_path):
    model = onnx.load(artifacts["onnx"])
    name = next(each.input[1] for each in model.graph.node if each.op_type == "Conv")
    model.graph.node.append(helper.make_node("QuantizeLinear", ["feats", name], ["nothing"]))
    onnx.save(model, tmp_path / "changed.onnx")
    changed = load_artifact(tmp_path / "changed.onnx")
    assert name in {layer.name for layer in weights_table(changed).prunable}


def test_the_gate_passes_where_all_is_counted(graphs):
    for path in graphs.values():
        result = CliRunner().invoke(main, ["inspect", str(path), "--min-sparsity", "0.75", "-q"])
        assert result.exit_code == 0, result.stderr
        assert "Passed" in result.stdout
