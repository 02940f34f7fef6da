"""int8 graphs from the command line: exported, gated, inspected, evaluated."""

import json
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile as sf
from click.testing import CliRunner
from onnx import helper, numpy_helper

from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.audio.decode import read_audio
from sparsify.audio.features import features_of
from sparsify.benchmarks.inference.candidates import Gathering
from sparsify.cli.main import main
from sparsify.corpus.synthetic import write_synthetic
from sparsify.errors import SparsifyError
from sparsify.exporters import export, quantise
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.onnx import quantising, writing
from sparsify.exporters.onnx.dequantising import write_float_twin
from sparsify.exporters.onnx.quantising import costly_layers
from sparsify.exporters.onnx.sealing import own_metadata, seal_graph
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.models.registry import build_model
from sparsify.progress import silent
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.trials import make_trials, write_trials

INT8 = ("--format", "onnx", "--precision", "int8")


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Three voices and a list of trials between them."""
    root = tmp_path_factory.mktemp("speech")
    spoken = write_synthetic(root / "audio", 3, 2, seed=5).utterances
    trials = make_trials([u.key for u in spoken], [u.speaker for u in spoken], seed=0)
    write_trials(trials, root / "trials.txt")
    return root


def run(command, *arguments):
    return CliRunner().invoke(main, [command, *map(str, arguments)])


def trials_of(speech):
    return ("--trials", speech / "trials.txt", "--audio-root", speech / "audio")


def test_no_more_is_decoded_than_is_used(speech, tmp_path, monkeypatch):
    """Of a recording of ten minutes, some seconds from its first one."""
    rate = 16000
    noise = np.random.default_rng(0).integers(-99, 99, 600 * rate, dtype=np.int16)
    for name in ("a", "b", "c"):
        sf.write(tmp_path / f"{name}.wav", noise, rate)
    decoded = []

    def counted(source, sample_rate):
        decoded.append(source)
        return read_audio(source, sample_rate)

    monkeypatch.setattr(quantise, "read_audio", counted)
    how = quantise.quantisation(tmp_path, FrontEnd())
    assert [len(each) for each in how.waveforms] == [rate // 2, rate, 2 * rate]
    assert all(each.start == 30 and each.end - each.start <= 2 for each in decoded)
    features = features_of(FrontEnd())(noise[30 * rate :][: rate // 2] / np.float32(2**15))
    assert np.array_equal(how.features[0], features)
    short = quantise.quantisation(speech / "audio", FrontEnd())
    assert max(map(len, short.waveforms)) <= 4 * rate


def known_graph_of(path, model, _):
    """Without torch's exporter, which takes seconds."""
    found, state = onnx.load(path), model.state_dict()
    del found.metadata_props[:]
    for each in found.graph.initializer:
        if each.name in state:
            each.CopyFrom(numpy_helper.from_array(state[each.name].numpy(), each.name))
    return found


@pytest.fixture(scope="module")
def exported(artifacts, speech, tmp_path_factory):
    """An int8 export with everything that is told of it."""
    output = tmp_path_factory.mktemp("exported") / "small.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_graph", partial(known_graph_of, artifacts["onnx"]))
        arguments = (*INT8, "--quantize-audio", speech / "audio", *trials_of(speech))
        options = ("--max-eer-loss", 100, "--output", output, "--json")
        result = run("export", artifacts["dense"], *arguments, *options)
    assert result.exit_code == 0, result.stderr
    return output, json.loads(result.stdout)


def test_what_is_told(exported, artifacts):
    output, printed = exported
    assert printed["precision"] == "int8"
    assert printed["bytes"] == output.stat().st_size < 0.7 * printed["dense_bytes"]
    assert printed["parity"]["passed"]
    assert 0.99 < printed["rounding"]["cosine_min"] < 1
    quantised = printed["quantised"]
    assert quantised["distance"] <= quantised["distance_of_all"] < 0.01
    weights = {layer.name for layer in weights_table(load_artifact(artifacts["dense"])).prunable}
    assert weights > set(quantised["float_layers"]) > set()
    accuracy = printed["accuracy"]
    assert accuracy["loss"]["eer"] == pytest.approx(
        accuracy["after"]["eer_percent"] - accuracy["before"]["eer_percent"]
    )
    (gate,) = printed["gates"]
    assert gate["name"] == "max_eer_loss"
    assert gate["value"] == accuracy["loss"]["eer"]
    assert gate["passed"]


def test_weights_are_signed_with_zero_for_zero_and_keep_their_names(exported, artifacts):
    output, printed = exported
    graph = onnx.load(output).graph
    tensors = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    state = load_artifact(artifacts["dense"]).state
    rounded = 0
    for name in (name for name, weight in state.items() if weight.dim() > 1):
        assert tensors[name].shape == tuple(state[name].shape)
        assert not tensors[name][state[name].numpy() == 0].any()
        if name in printed["quantised"]["float_layers"]:
            assert tensors[name].tobytes() == state[name].numpy().tobytes()
            continue
        rounded += 1
        (node,) = (n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] == name)
        scale, zero = (tensors[each] for each in node.input[1:])
        assert tensors[name].dtype == zero.dtype == np.int8
        assert not zero.any()
        assert scale.shape == (len(state[name]),)  # one for each output channel
        levels = tensors[name] * scale.reshape(-1, *[1] * (state[name].dim() - 1))
        assert np.abs(levels - state[name].numpy()).max() <= scale.max() * 0.51
    assert rounded > 20


def test_it_is_a_model_of_its_own(exported, artifacts):
    output, _ = exported
    small, source = load_speaker_model(output), load_speaker_model(artifacts["dense"])
    assert small.artifact.metadata["rounded_from"] == source.digest
    assert small.digest != source.digest
    assert small.front_end == source.front_end
    assert small.artifact.architecture == source.artifact.architecture
    with pytest.raises(SparsifyError, match="whose layers are int8: give the run"):
        small.artifact.build()
    feats = np.random.default_rng(0).normal(scale=3, size=(80, 80)).astype(np.float32)
    one, other = small.embedder(feats), source.embedder(feats)
    assert one @ other > 0.98 * np.linalg.norm(one) * np.linalg.norm(other)


def test_other_commands_read_it(exported, speech, tmp_path):
    output, printed = exported
    result = run("evaluate", output, *trials_of(speech), "--json")
    assert json.loads(result.stdout)["eer_percent"] == pytest.approx(
        printed["accuracy"]["after"]["eer_percent"]
    )
    inspected = json.loads(run("inspect", output, "--min-sparsity", 0.75, "--json").stdout)
    assert inspected["sparsity"] == pytest.approx(printed["sparsity"])
    assert inspected["gates"][0]["passed"]
    assert inspected["multiply_adds"] > 0
    assert inspected["left_out"] == []
    assert run("embed", output, speech / "audio", "--output", tmp_path / "e.npz").exit_code == 0
    exporter_of(load_artifact(output).format).twin(load_artifact(output), tmp_path / "twin.onnx")
    twin = load_artifact(tmp_path / "twin.onnx")
    assert not twin.quantised  # the twin is in float32
    assert weights_table(twin).sparsity == 0


@pytest.mark.parametrize("what", ["weight", "scale"])
def test_damage_is_found(exported, tmp_path, what):
    output, _ = exported
    model = onnx.load(output)
    names = {"weight": "pool.linear1.weight", "scale": "pool.linear1.weight_scale"}
    tensor = next(each for each in model.graph.initializer if each.name == names[what])
    values = numpy_helper.to_array(tensor).copy()
    values[-1] = values[-1] + 1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "m.onnx")
    assert run("inspect", tmp_path / "m.onnx").exit_code == 2


def test_what_loses_too_much_is_refused(artifacts, speech, tmp_path):
    """Any format has that gate; one that loses nothing passes at zero."""
    output = tmp_path / "m.safetensors"
    arguments = (artifacts["dense"], "--format", "safetensors", "--output", output)
    result = run("export", *arguments, *trials_of(speech), "--max-eer-loss", -1, "--json")
    assert result.exit_code == 1
    assert "points of EER" in result.stderr
    assert not json.loads(result.stdout)["gates"][0]["passed"]
    assert list(tmp_path.iterdir()) == []
    result = run("export", *arguments, *trials_of(speech), "--max-eer-loss", 0)
    assert result.exit_code == 0, result.stderr
    assert "the model before" in result.stdout
    assert "EER +0.00 points against the model" in result.stdout


@pytest.mark.parametrize(
    "change",
    [
        {"pool.linear1.weight": ["Conv1d", False]},
        {"pool.linear1.weight": ["Linear", True]},
        {"padding": ["Linear", True]},
    ],
)
def test_what_a_file_says_of_its_weights_is_checked(exported, tmp_path, change):
    """Whoever writes a file can seal it, too."""
    model = onnx.load(exported[0])
    padding = numpy_helper.from_array(np.zeros((999, 999), np.float32), "padding")
    model.graph.initializer.append(padding)
    own = own_metadata(model)
    own["parameter_kinds"] = json.dumps(json.loads(own["parameter_kinds"]) | change)
    seal_graph(model, own)
    onnx.save(model, tmp_path / "m.onnx")
    result = run("inspect", tmp_path / "m.onnx", "--min-sparsity", 0.1)
    assert result.exit_code == 2
    assert f"what it says of '{next(iter(change))}' does not fit its network" in result.stderr


def test_its_twin_in_float_computes_the_same_without_rounding(exported, artifacts, tmp_path):
    write_float_twin(exported[0], tmp_path / "twin.onnx", {})
    assert not any("Quantize" in n.op_type for n in onnx.load(tmp_path / "twin.onnx").graph.node)
    artifact = load_artifact(tmp_path / "twin.onnx")
    assert artifact.precision == "fp32"
    candidates = Gathering(tmp_path).candidates([load_artifact(exported[0])], silent)
    kinds = [(each.baseline, each.artifact, each.precision) for each in candidates]
    assert kinds == [(True, "dense", "fp32"), (False, "sparse", "int8")]
    parity = export.check_parity(
        load_network(artifacts["onnx"]), load_network(artifact.path), tolerance=0.05
    )
    assert parity.passed


def test_int8_graphs_take_samples_too(artifacts, speech, tmp_path, monkeypatch):
    """The front end stays in float32; where work cannot be counted, sizes stand for it."""

    def uncounted(*_):
        raise SparsifyError("a weight is used by something that is not counted")

    monkeypatch.setattr(writing, "network_work", uncounted)
    monkeypatch.setattr(writing, "_graph", partial(known_graph_of, artifacts["onnx"]))
    output = tmp_path / "m.onnx"
    options = (*INT8, "--quantize-audio", speech / "audio", "--with-frontend", "--json")
    result = run("export", artifacts["dense"], *options, "--output", output)
    assert result.exit_code == 0, result.stderr
    assert "weighed by their sizes" in result.stderr
    printed = json.loads(result.stdout)
    assert printed["parity"]["passed"]
    assert printed["rounding"]["cosine_min"] > 0.98
    assert printed["quantised"]["float_layers"]
    small = load_speaker_model(output)
    assert small.artifact.takes_samples
    graph = onnx.load(output)
    graph.graph.output.append(helper.make_empty_tensor_value_info("feats"))
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    samples = read_audio(next((speech / "audio").rglob("*.*")), 16000)
    embedding, feats = session.run(None, {"waveform": samples[None]})
    assert np.abs(feats[0] - features_of(FrontEnd())(samples)).max() < 1e-3
    assert np.array_equal(embedding[0], small.embedder(samples))
    whole = load_speaker_model(artifacts["dense"]).embedder(features_of(FrontEnd())(samples))
    assert embedding[0] @ whole > 0.98 * np.linalg.norm(embedding) * np.linalg.norm(whole)


@pytest.mark.usefixtures("known_graph")
def test_files_that_take_samples_are_evaluated_with_samples(artifacts, speech, tmp_path):
    arguments = ("--format", "onnx", "--with-frontend", "--output", tmp_path / "m.onnx")
    options = (*trials_of(speech), "--max-eer-loss", 0.1)
    assert run("export", artifacts["dense"], *arguments, *options).exit_code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (INT8, "give --quantize-audio"),
        (("--format", "onnx", "--quantize-audio", "."), "only --format onnx --precision int8"),
        ((*INT8, "--quantize-audio", "nothing"), "is not a folder"),
        ((*INT8, "--quantize-audio", "{empty}"), "no audio under"),
        (("--format", "onnx", "--max-eer-loss", "1"), "needs --trials"),
        ((*INT8, "--reduce-range"), "serves --quantize-audio"),
    ],
)
def test_wrong_usage_is_one_sentence(artifacts, tmp_path, options, words):
    empty = tmp_path / "empty"
    empty.mkdir()
    options = [each.format(empty=empty) for each in options]
    result = run("export", artifacts["dense"], *options, "--output", tmp_path / "m.onnx")
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "m.onnx").exists()


def test_layers_that_cost_far_more_than_their_share_stay():
    errors = {"first": 4.0, "small": 1.0, "wide": 3.0, "plain": 2.0, "tiny": 1e-3}
    work = {"first": 5, "small": 1, "wide": 45, "plain": 48, "tiny": 1}
    # "wide" loses its share, "tiny" less, and "first" with "small" is 6 % of all multiply-adds.
    assert costly_layers(errors, work) == ["small", "first"]
    assert costly_layers(errors | {"wide": 9.0}, work | {"wide": 9}) == ["small", "first"]
    assert costly_layers(dict.fromkeys(errors, 0.0), work) == []
    hiding = costly_layers(errors | {"broken": 1000.0}, work | {"broken": 1})
    assert hiding == ["broken", "small", "first"]


def test_norms_behind_convolutions_become_part_of_them(tmp_path):
    model = build_model("resnet18", channels=2, feature_dim=16, embedding_dim=4).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(("running_var", "bn1.weight")):
            tensor.uniform_(0.5, 2)
    save_model(model, tmp_path / "m.safetensors")
    writing.export_onnx(load_artifact(tmp_path / "m.safetensors"), tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx")
    convolutions = [n.input[1] for n in graph.graph.node if n.op_type == "Conv"]
    quantising.fold_norms(graph)
    onnx.checker.check_model(graph, full_check=True)
    assert not [node for node in graph.graph.node if node.op_type == "BatchNormalization"]
    assert [n.input[1] for n in graph.graph.node if n.op_type == "Conv"] == convolutions
    onnx.save(graph, tmp_path / "folded.onnx")
    parity = export.check_parity(
        load_network(tmp_path / "m.onnx"),
        load_network(tmp_path / "folded.onnx"),
        front_end=FrontEnd(num_mel_bins=16),
    )
    assert parity.passed


def load_network(path):
    artifact = load_artifact(path)
    return exporter_of(artifact.format).network(artifact)
