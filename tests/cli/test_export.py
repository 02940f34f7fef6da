import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from sparsify.artifact.loading import load_artifact
from sparsify.cli.main import main
from sparsify.exporters import export
from sparsify.exporters.exporter import Exporter
from sparsify.exporters.parity import Parity

KEYS = {
    "path",
    "format",
    "layout",
    "precision",
    "bytes",
    "dense_bytes",
    "sparsity",
    "parity",
    "benchmark",
    "gates",
}
ROW_KEYS = {
    "engine",
    "artifact",
    "precision",
    "threads",
    "batch",
    "frames",
    "median_ms",
    "p90_ms",
    "min_ms",
    "speedup",
    "speedup_low",
    "speedup_high",
    "rtf",
    "peak_bytes",
    "bytes",
    "zipped_bytes",
    "path",
    "sparsity",
}


pytestmark = pytest.mark.usefixtures("short_benchmark")


def run(*arguments):
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


@pytest.mark.usefixtures("known_graph")
def test_onnx_with_benchmark_as_json(artifacts, tmp_path):
    output = tmp_path / "m.onnx"
    result = run(artifacts["run"], "--format", "onnx", "--output", output, "--benchmark", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed.keys() >= KEYS
    assert printed["path"] == str(output)
    assert printed["bytes"] == output.stat().st_size
    assert printed["parity"].keys() == {"max_abs_error", "cosine_min", "passed"}
    assert printed["parity"]["passed"] is True
    assert all(row.keys() == ROW_KEYS for row in printed["benchmark"])
    assert {row["artifact"] for row in printed["benchmark"]} == {"sparse", "dense"}
    assert printed["machine"]["cpu"]
    assert load_artifact(output).architecture is not None


def test_safetensors_as_tables(artifacts, tmp_path):
    output = tmp_path / "m.safetensors"
    arguments = ("--format", "safetensors", "--layout", "bitmask", "--output", output)
    result = run(artifacts["dense"], *arguments)
    assert result.exit_code == 0, result.stderr
    assert "% sparse, bitmask" in result.stdout
    assert "dense twin" in result.stdout
    assert f"Wrote {output}" in result.stdout
    assert output.read_bytes() == artifacts["bitmask"].read_bytes()


def test_coded_with_levels_as_tables_and_json(artifacts, tmp_path):
    output = tmp_path / "m.safetensors"
    options = ("--format", "safetensors", "--layout", "coded", "--precision", "int8")
    result = run(artifacts["dense"], *options, "--output", output, "--masks")
    assert result.exit_code == 0, result.stderr
    assert "% sparse, coded int8" in result.stdout
    assert "equal to the model in int8" in result.stdout
    masks = load_file(tmp_path / "m.masks.safetensors")
    state = load_artifact(output).state
    assert all(torch.equal(mask, state[name] != 0) for name, mask in masks.items())
    result = run(artifacts["dense"], *options, "--output", output, "--force", "--json")
    assert json.loads(result.stdout)["rounding"]["passed"] is None
    strict = ("--output", tmp_path / "n.safetensors", "--tolerance", "1e-6", "--json")
    result = run(artifacts["dense"], *options, *strict)
    assert result.exit_code == 1
    assert "too far" in result.stderr
    printed = json.loads(result.stdout)
    assert printed["parity"]["passed"]
    assert printed["rounding"]["passed"] is False
    assert not (tmp_path / "n.safetensors").exists()


@pytest.mark.usefixtures("known_graph")
def test_latencies_as_a_table(artifacts, tmp_path):
    output = tmp_path / "m.onnx"
    result = run(artifacts["dense"], "--format", "onnx", "--output", output, "--benchmark")
    assert result.exit_code == 0, result.stderr
    for word in ("onnxruntime", "pytorch", "Median ms", "baseline", "200 frames"):
        assert word in result.stdout


@pytest.mark.parametrize("error", [0.25, float("nan")])
def test_a_network_that_differs_is_exit_code_1(artifacts, tmp_path, monkeypatch, error):
    parity = Parity(max_abs_error=error, cosine_min=0.5, passed=False)
    monkeypatch.setattr(export, "check_parity", lambda *args, **kwargs: parity)
    arguments = ("--format", "safetensors", "--output", tmp_path / "m.safetensors")
    result = run(artifacts["dense"], *arguments, "--json")
    assert result.exit_code == 1
    assert "differs from the model" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    expected = None if error != error else error
    assert json.loads(result.stdout)["parity"]["max_abs_error"] == expected
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", [None, "old"])
def test_what_is_too_large_is_not_written(artifacts, tmp_path, existing):
    output = tmp_path / "m.safetensors"
    if existing:
        output.write_text(existing)
    size = artifacts["dense"].stat().st_size
    arguments = (artifacts["run"], "--format", "safetensors", "--output", output, "--force")
    failed = run(*arguments, "--max-bytes", size - 1, "--json")
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1] == (  # phases of seconds have lines of their own
        f"Failed: '{output}' was not written: it has {size:,} bytes, more than --max-bytes"
        f" {size - 1:,}"
    )
    printed = json.loads(failed.stdout)
    assert (printed["bytes"], printed["parity"]["passed"]) == (size, True)
    gate = {"name": "max_bytes", "threshold": size - 1, "value": size, "passed": False}
    assert printed["gates"] == [gate]
    assert [path.read_text() for path in tmp_path.iterdir()] == ([existing] if existing else [])

    assert run(*arguments, "--max-bytes", "nan").exit_code == 2
    passed = run(*arguments, "--max-bytes", size, "--json")
    assert passed.exit_code == 0, passed.stderr
    assert json.loads(passed.stdout)["gates"] == [gate | {"threshold": size, "passed": True}]
    assert output.stat().st_size == size


def test_tolerance_reaches_the_comparison(artifacts, tmp_path, monkeypatch):
    seen = []

    def compare(*args, tolerance, **kwargs):
        seen.append(tolerance)
        return Parity(0.0, 1.0, True)

    monkeypatch.setattr(export, "check_parity", compare)
    output = tmp_path / "m.safetensors"
    arguments = (artifacts["dense"], "--format", "safetensors", "--output", output)
    assert run(*arguments, "--tolerance", "0.003").exit_code == 0
    assert run(*arguments, "--force").exit_code == 0
    assert seen == [0.003, 1e-4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "onnx", "--layout", "bitmask", "--output", "m.onnx"], "no bitmask layout"),
        (["--format", "onnx", "--output", "m.safetensors"], "must end in .onnx"),
        (
            ["--format", "safetensors", "--precision", "int4", "--output", "m.safetensors"],
            "add --layout coded",
        ),
        (["--format", "onnx", "--output", "missing/m.onnx"], "create the folder"),
        (["--format", "onnx", "--output", "old.onnx"], "--force"),
        (["--format", "tflite", "--output", "m.tflite"], "tflite"),
        (["--format", "onnx"], "--output"),
    ],
)
def test_wrong_usage_is_exit_code_2(artifacts, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.onnx").write_text("old")
    result = run(artifacts["dense"], *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_models_of_others_are_refused_with_the_remedy(artifacts, tmp_path):
    result = run(artifacts["pt"], "--format", "onnx", "--output", tmp_path / "m.onnx")
    assert result.exit_code == 2
    assert "sparsify.save_model" in result.stderr


def test_help_shows_an_example():
    assert "sparsify export run --format onnx" in run("--help").stdout


def test_it_says_why_nothing_was_compared(artifacts, tmp_path, monkeypatch):
    monkeypatch.setattr(Exporter, "obstacle", lambda *_: "it is not compiled")
    command = ["export", str(artifacts["run"]), "--format", "safetensors", "--output"]
    shown = CliRunner().invoke(main, [*command, str(tmp_path / "a.safetensors")])
    assert shown.exit_code == 0, shown.stderr
    assert "not compared with the model, since it is not compiled" in shown.stdout
    printed = CliRunner().invoke(main, [*command, str(tmp_path / "b.safetensors"), "--json"])
    report = json.loads(printed.stdout)
    assert (report["parity"], report["obstacle"]) == (None, "it is not compiled")


def test_what_is_for_another_machine_is_not_timed_here(artifacts, tmp_path):
    options = ["--format", "native", "--target", "wasm", "--benchmark"]
    result = CliRunner().invoke(
        main, ["export", str(artifacts["run"]), "--output", str(tmp_path / "out"), *options]
    )
    assert result.exit_code == 2
    assert "--benchmark measures on this machine" in result.stderr
    assert not (tmp_path / "out").exists()
