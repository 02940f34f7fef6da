"""A format that is added takes one module and one line: every command then knows it."""

import json
import shutil
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file, save_file

from sparsify.artifact import formats
from sparsify.artifact.description import exported_metadata
from sparsify.artifact.formats import Format
from sparsify.artifact.saving import canonical_state
from sparsify.artifact.weights import Weights
from sparsify.cli.main import main
from sparsify.exporters.exporter import Exporter
from sparsify.exporters.networks import torch_network
from sparsify.exporters.onnx.exporter import OnnxExporter

KNOWN = formats.FORMATS
LINE = Format(
    "toy",
    (".toy",),
    "toy_format:ToyExporter",
    "toy_format:read_toy",
    "is a toy",
    layouts=("dense", "blocks"),
)


def read_toy(path):
    folder = path if path.is_dir() else path.parent
    return Weights(
        load_arrays(folder / "weights" if path.is_dir() else path),
        json.loads((folder / "toy.json").read_text()),
    )


class ToyExporter(Exporter):
    """Weights and, beside them, metadata; of a folder, both are in it."""

    engine = "toy engine"

    def write(self, artifact, output, layout):
        model = artifact.build()
        state = canonical_state(model)
        known = exported_metadata(artifact, model, state)
        if not output.suffix:
            output.mkdir()
        save_file(state, output if output.suffix else output / "weights")
        folder = output.parent if output.suffix else output
        (folder / "toy.json").write_text(json.dumps(known | {"layout": layout}))

    def network(self, artifact, threads=None):
        return torch_network(artifact.build(), threads)


@pytest.fixture
def sparsify(monkeypatch, artifacts, forget_commands, short_benchmark):
    """Registers the format and runs commands."""
    monkeypatch.setattr(
        OnnxExporter, "write", lambda self, artifact, path, _: shutil.copy(artifacts["onnx"], path)
    )
    module = types.ModuleType("toy_format")
    module.ToyExporter, module.read_toy = ToyExporter, read_toy
    monkeypatch.setitem(sys.modules, "toy_format", module)

    def sparsify(line, *arguments):
        monkeypatch.setattr(formats, "FORMATS", (*KNOWN, line))
        forget_commands()
        return CliRunner().invoke(main, [str(each) for each in arguments])

    return sparsify


def test_a_new_format_is_known_to_every_command(sparsify, artifacts, tmp_path):
    def run(*arguments):
        result = sparsify(LINE, *arguments)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    path = tmp_path / "out" / "model.toy"
    path.parent.mkdir()
    options = ("--format", "toy", "--layout", "blocks", "--output", path, "--benchmark")
    report = json.loads(run("export", artifacts["run"], *options, "--json"))
    assert (report["format"], report["layout"]) == ("toy", "blocks")
    assert report["parity"]["passed"]
    assert report["bytes"] == path.stat().st_size
    assert {each.name for each in path.parent.iterdir()} == {"model.toy", "toy.json"}
    toy = [("toy engine", "dense"), ("toy engine", "sparse")]
    first, last = ("onnxruntime", "dense"), ("pytorch", "sparse")
    assert [(row["engine"], row["artifact"]) for row in report["benchmark"]] == [first, *toy, last]
    options = ("--engine", "toy engine", "--engine", "pytorch", "--json")
    rows = json.loads(run("benchmark", artifacts["run"], *options))["rows"]
    assert [(row["engine"], row["artifact"]) for row in rows] == [first, *toy, last]
    inspected = json.loads(run("inspect", path, "--json"))
    ours = json.loads(run("inspect", artifacts["dense"], "--json"))
    assert (inspected["format"], inspected["layout"]) == ("toy", "blocks")
    assert inspected["layers"] == ours["layers"]

    speech = np.random.default_rng(0).normal(scale=0.1, size=16000)
    soundfile.write(tmp_path / "a.wav", speech, 16000)
    tables = []
    for model in (path, artifacts["run"]):
        run("embed", model, tmp_path / "a.wav", "--output", tmp_path / "a.npz")
        tables.append(np.load(tmp_path / "a.npz")["embeddings"])
    np.testing.assert_array_equal(*tables)

    usage = " ".join(run("export", "--help").split())
    assert "|toy]" in usage
    assert "toy is a toy" in usage
    assert "blocks (toy only)" in usage
    (tmp_path / "x.txt").touch()
    result = sparsify(LINE, "inspect", tmp_path / "x.txt")
    assert ".pt or .toy file" in result.stderr
    options = ("--format", "onnx", "--layout", "blocks", "--output", tmp_path / "m.onnx")
    assert "no blocks layout" in sparsify(LINE, "export", artifacts["run"], *options).stderr


def test_a_format_may_be_a_folder(sparsify, artifacts, tmp_path):
    line = replace(LINE, suffixes=(), marker="toy.json")
    output = tmp_path / "engine"
    export = ("export", artifacts["run"], "--format", "toy", "--output", output, "--json")
    output.mkdir()
    (output / "precious").touch()
    assert "export has made what is there" in sparsify(line, *export, "--force").stderr
    (output / "precious").unlink()
    output.rmdir()
    for options in ((), ("--force",)):
        result = sparsify(line, *export, *options)
        assert result.exit_code == 0, result.stderr
        assert {each.name for each in output.iterdir()} == {"weights", "toy.json"}
        assert [each.name for each in tmp_path.iterdir()] == ["engine"]
    report = json.loads(result.stdout)
    assert report["bytes"] == sum(each.stat().st_size for each in output.iterdir())
    assert "--force" in sparsify(line, *export).stderr
    assert json.loads(sparsify(line, "inspect", output, "--json").stdout)["format"] == "toy"
    missing = sparsify(line, "inspect", tmp_path / "nothing")
    assert "no such file" in missing.stderr
    (tmp_path / "x.txt").touch()
    assert "toy folder, .safetensors" in sparsify(line, "inspect", tmp_path / "x.txt").stderr
    assert torch.equal(
        load_file(output / "weights")["linear.weight"],
        load_file(artifacts["dense"])["linear.weight"],
    )
