"""Files that MNN itself makes and runs, compared with the model they came from."""

import hashlib
import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from sparsify.artifact.artifact import weights_table
from sparsify.artifact.formats import format_named
from sparsify.artifact.loading import load_artifact
from sparsify.cli.main import main
from sparsify.errors import SparsifyError
from sparsify.exporters.export import export_artifact
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.mnn import session
from sparsify.exporters.mnn.exporter import MnnExporter
from sparsify.exporters.mnn.sidecar import sidecar_of
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.sparsity.prunable import prunable_parameters

needs_mnn = pytest.mark.skipif(
    importlib.util.find_spec("MNN") is None, reason="MNN is not installed (the extra mnn)"
)


@pytest.fixture
def exported(artifacts, once, known_graph):
    """`sparse_model` as a `.mnn` in an own folder, its sidecar beside it."""
    output = "model.mnn"
    folder = once(
        "mnn",
        lambda folder: export_artifact(load_artifact(artifacts["run"]), folder / output, "mnn"),
    )
    return folder / output


@pytest.fixture
def copy(exported, tmp_path):
    """The same, to be damaged."""
    shutil.copytree(exported.parent, tmp_path / "copy")
    return tmp_path / "copy" / exported.name


def run(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


@needs_mnn
def test_an_export_is_equal_to_its_model_and_counted_without_its_sidecar(
    artifacts, tmp_path, known_graph
):
    output = tmp_path / "model.mnn"
    report = export_artifact(load_artifact(artifacts["run"]), output, "mnn")
    assert report.parity.passed
    assert report.parity.max_abs_error > 0  # another engine's
    assert {each.name for each in tmp_path.iterdir()} == {"model.mnn", "model.mnn.json"}
    assert report.bytes == output.stat().st_size < report.dense_bytes
    assert report.sparsity == weights_table(load_artifact(artifacts["run"])).sparsity


@needs_mnn
def test_weights_and_counts_are_those_of_the_model(exported, sparse_model, artifacts):
    artifact = load_artifact(exported)
    assert weights_table(artifact) == weights_table(load_artifact(artifacts["run"]))
    weights = prunable_parameters(sparse_model)
    assert artifact.state.keys() == weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(artifact.state[name], weight.data, rtol=0, atol=0)


@needs_mnn
@pytest.mark.parametrize("source", ["run", "onnx"])
def test_it_is_the_same_model_as_its_source(exported, artifacts, source):
    ours, theirs = load_speaker_model(exported), load_speaker_model(artifacts[source])
    assert ours.digest == theirs.digest
    assert ours.front_end == theirs.front_end
    assert ours.artifact.recipe == theirs.artifact.recipe
    feats = np.random.default_rng(0).normal(size=(130, 80)).astype(np.float32)
    np.testing.assert_allclose(ours.embedder(feats), theirs.embedder(feats), rtol=1e-4, atol=1e-4)


@needs_mnn
def test_the_twin_has_the_same_graph_and_no_zeros(exported, tmp_path):
    artifact = load_artifact(exported)
    MnnExporter().twin(artifact, tmp_path / "dense.mnn")
    twin = load_artifact(tmp_path / "dense.mnn")
    assert weights_table(twin).sparsity == 0
    for name, weight in artifact.state.items():
        assert torch.equal(twin.state[name][weight != 0], weight[weight != 0])
    feats = np.ones((1, 30, 80), np.float32)
    embedded = [MnnExporter().network(each)(feats) for each in (artifact, twin)]
    assert embedded[0].shape == embedded[1].shape
    assert not np.allclose(*embedded)


@needs_mnn
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_threads_are_those_asked_for(exported, threads, monkeypatch):
    runtime = session.mnn().nn
    given = []
    create = runtime.create_runtime_manager
    monkeypatch.setattr(
        runtime,
        "create_runtime_manager",
        lambda settings: given.append(settings) or create(settings),
    )
    MnnExporter().network(load_artifact(exported), threads)
    assert [each["numThread"] for each in given[0]] == [threads or session.available_cores()]


@needs_mnn
def test_no_network_is_built_from_it(exported, tmp_path):
    with pytest.raises(SparsifyError, match=r"cannot be built from .*model\.mnn'.*give the run"):
        export_artifact(load_artifact(exported), tmp_path / "m.onnx", "onnx")


@needs_mnn
def test_without_its_sidecar_it_is_a_strangers_file(copy, caplog):
    (copy.parent / "model.mnn.json").unlink()
    artifact = load_artifact(copy)
    assert "'model.mnn.json' is not beside" in caplog.text
    assert artifact.architecture is None
    model = load_speaker_model(copy)
    assert "using those of sherpa-onnx" in caplog.text
    assert model.embedder(np.ones((30, 80), np.float32)).shape == (24,)


@needs_mnn
def test_a_strangers_file_that_crashes_mnn_is_one_sentence(copy, monkeypatch):
    (copy.parent / "model.mnn.json").unlink()
    monkeypatch.setattr(session, "_PROBE", "import os; os.abort()")
    with pytest.raises(SparsifyError, match=r"model\.mnn' is damaged: MNN crashes on it"):
        load_speaker_model(copy)


def sealed(content):
    """The content of a sidecar with the digest that fits it."""
    del content["digest"]
    text = json.dumps(content, sort_keys=True)
    return json.dumps(content | {"digest": hashlib.sha256(text.encode()).hexdigest()})


def of_others(content):
    content["metadata"]["framework"] = "another"


def newer(content):
    content["metadata"]["format_version"] = "99"
    content["metadata"]["unheard-of"] = "x"


def misplaced(content):
    content["parameters"][0]["operators"] = [10_000]


def multiplied(content):
    content["parameters"][0]["operators"] *= 10**6


def misshaped(content):
    content["parameters"][0]["shape"] = [3]


def mistyped(content):
    content["parameters"][0]["nonzero"] = "many"


def shapeless(content):
    del content["parameters"][0]["shape"]


@needs_mnn
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_others, "does not say that sparsify wrote it"),
        (newer, "update sparsify"),
        (misplaced, r"model\.mnn\.json' is damaged"),
        (multiplied, "operators of 1000000 weights have no shape"),
        (misshaped, r"model\.mnn\.json' is damaged"),
        (mistyped, r"parameters\.0\.nonzero = 'many' does not fit"),
        (shapeless, r"parameters\.0\.shape' is missing"),
    ],
)
def test_sidecars_that_contradict_the_file_are_refused(copy, change, message):
    sidecar = copy.parent / "model.mnn.json"
    content = json.loads(sidecar.read_text())
    change(content)
    sidecar.write_text(sealed(content))
    with pytest.raises(SparsifyError, match=message):
        load_artifact(copy)


@needs_mnn
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ("[1]", "is damaged or not what sparsify wrote beside 'model.mnn'"),
        ('{"digest": 5}', "is damaged or not what sparsify wrote"),
        (" " * (1 << 25), "is larger than 16384 KiB"),
    ],
    ids=["empty", "list", "wrong digest", "oversized"],
)
def test_damaged_sidecars_are_refused(copy, text, message):
    (copy.parent / "model.mnn.json").write_text(text)
    with pytest.raises(SparsifyError, match=message):
        load_artifact(copy)


@needs_mnn
def test_a_file_that_no_longer_fits_its_sidecar_is_refused(copy):
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    result = run("inspect", copy)
    assert result.exit_code == 2
    assert "is damaged or not the file that 'model.mnn.json' belongs to" in result.stderr


@needs_mnn
def test_commands_know_it(exported, known_graph, artifacts, copy):
    shown = json.loads(run("inspect", exported, "--json").stdout)
    ours = json.loads(run("inspect", artifacts["run"], "--json").stdout)
    assert shown["layers"] == ours["layers"]
    assert shown["bytes"] == exported.stat().st_size
    assert run("inspect", exported, "--min-sparsity", 0.9).exit_code == 1
    options = ("export", artifacts["run"], "--format", "mnn", "--output", copy)
    assert "exists: give --force" in run(*options).stderr
    sidecar = copy.with_name("model.mnn.json")
    content = sidecar.read_text()
    sidecar.unlink()
    sidecar.mkdir()
    assert "it is a folder" in run(*options, "--force").stderr
    sidecar.rmdir()
    sidecar.write_text(content)
    copy.unlink()
    refused = run(*options)
    assert refused.exit_code == 2
    assert "model.mnn.json' exists: give --force" in refused.stderr
    assert run(*options, "--force").exit_code == 0
    assert weights_table(load_artifact(copy)).nonzero == shown["nonzero"]


@needs_mnn
def test_features_that_do_not_fit_are_one_sentence_and_nothing_else(exported, capfd):
    network = MnnExporter().network(load_artifact(exported))
    with pytest.raises(SparsifyError, match=r"does not accept features of shape \(1, 30, 81\)"):
        network(np.ones((1, 30, 81), np.float32))
    assert capfd.readouterr().out == ""
    assert network(np.ones((2, 30, 80), np.float32)).shape == (2, 24)


@needs_mnn
def test_graphs_with_another_input_are_named(own_golden):
    with pytest.raises(SparsifyError, match=r"input must be \[B, T, 80\], not \[1, -1, 8\]"):
        load_speaker_model(own_golden / "mnn_sparse.mnn")


@pytest.mark.parametrize("command", ["export", "embed"])
def test_without_mnn_the_extra_is_named(monkeypatch, artifacts, own_golden, tmp_path, command):
    monkeypatch.setitem(sys.modules, "MNN", None)
    (tmp_path / "a.wav").touch()
    arguments = {
        "export": (artifacts["run"], "--format", "mnn", "--output", tmp_path / "m.mnn"),
        "embed": (own_golden / "mnn_dense.mnn", tmp_path / "a.wav", "--output", tmp_path / "e.npz"),
    }
    result = run(command, *arguments[command])
    assert result.exit_code == 2
    assert "MNN is not installed: pip install 'sparsify-speaker[mnn]'" in result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["a.wav"]


def test_files_of_others_are_counted_without_mnn(monkeypatch, own_golden):
    monkeypatch.setitem(sys.modules, "MNN", None)
    table = weights_table(load_artifact(own_golden / "mnn_sparse.mnn"))
    assert (sum(each.nonzero for each in table.prunable), len(table.prunable)) == (255, 4)


def test_exporters_tell_what_belongs_to_a_file(tmp_path):
    files = format_named("mnn").files(tmp_path / "m.mnn")
    assert files == [tmp_path / "m.mnn", sidecar_of(tmp_path / "m.mnn")]
    assert exporter_of(format_named("mnn")).engine == "mnn"
