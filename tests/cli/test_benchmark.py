import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from sparsify.benchmarks.inference.benchmark import Benchmark, Latency
from sparsify.benchmarks.machine import describe_machine
from sparsify.cli import benchmark as command
from sparsify.cli import benchmark_display, display
from sparsify.cli.main import main

pytestmark = pytest.mark.usefixtures("short_benchmark")


def run(*arguments):
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments)])


def test_as_json(artifacts):
    options = ("--threads", "2,1", "--frames", "20", "--batch", "2", "--rounds", 6)
    result = run(artifacts["onnx"], *options, "--engine", "onnxruntime", "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed.keys() == {"machine", "rows", "left_out", "gates"}
    assert printed["machine"].keys() >= {"cpu", "isa", "cores", "python", "torch", "onnxruntime"}
    settings = [(row["threads"], row["batch"], row["frames"]) for row in printed["rows"]]
    assert settings == [(t, 2, 20) for t in (1, 2) for _ in range(2)]
    assert {row["engine"] for row in printed["rows"]} == {"onnxruntime"}
    assert printed["gates"] == []


@pytest.mark.parametrize(("factor", "code"), [("0.000001", 0), ("1000000", 1)])
def test_the_gate_looks_at_the_lower_end(artifacts, factor, code):
    result = run(artifacts["onnx"], "--frames", 20, "--min-speedup", factor, "--json")
    assert result.exit_code == code, result.stderr
    printed = json.loads(result.stdout)
    kinds = {(row["engine"], row["artifact"]): row for row in printed["rows"]}
    assert printed["gates"] == [
        {
            "name": "min_speedup",
            "threshold": float(factor),
            "value": kinds["onnxruntime", "sparse"]["speedup_low"],
            "passed": code == 0,
        }
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--frames", "1"], "1 is less than 2"),
        (["--threads", "0,1"], "0 is less than 1"),
        (["--batch", "x"], "no list of whole numbers"),
        (["--rounds", "5"], "--rounds"),
        (["--engine", "mn"], "unknown engine 'mn'"),
    ],
)
def test_wrong_usage_is_exit_code_2(artifacts, options, words):
    result = run(artifacts["onnx"], *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_a_file_is_needed(tmp_path):
    assert run().exit_code == 2
    assert "no such file" in run(tmp_path / "missing.onnx").stderr


def row(engine, path="run", artifact="sparse", speedup=(1.0, 1.0, 1.0), frames=200):
    median, low, high = speedup
    times = (123.456, 150.0, 100.0)
    sparsity = 0.9 if artifact == "sparse" else 0.0
    sizes = (123_456_789, 12_345_678, 1_234_567)
    kind = (engine, artifact, "fp32", 1, 1, frames)
    return Latency(*kind, *times, median, low, high, 0.0617, *sizes, path, sparsity)


RESULT = Benchmark(
    describe_machine({"toy": "1.2"}),
    (
        row("onnxruntime", artifact="dense"),
        row("onnxruntime", speedup=(1.17, 0.9, 1.3)),
        row("toy engine", speedup=(3.41, 3.2, 3.6)),
        row("toy engine", speedup=(0.5, 0.4, 0.6), frames=50),
    ),
    ("mnn is left out: it is not installed",),
)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_and_cuts_no_number(artifacts, monkeypatch, width):
    monkeypatch.setattr(display.out, "width", width)
    monkeypatch.setattr(command, "benchmark", lambda *_, **__: RESULT)
    shown = run(artifacts["onnx"]).stdout
    rows = [line for line in shown.splitlines() if line.startswith(("onnxruntime ", "toy "))]
    assert len(rows) == 4
    for line, verdict in zip(rows, ("baseline", "level", "×3.41", "×0.50"), strict=True):
        assert len(line.rstrip()) <= width
        assert "123.46" in line
        assert "dense" in line or "90.0%" in line
        assert verdict in line
    assert ("3.20–3.60" in rows[2]) == (width >= 60)
    assert ("1.23 MB" in rows[2]) == (width == 120)
    assert "1 thread, batch 1, 50 frames" in shown


def test_models_of_one_name_are_told_apart(artifacts, monkeypatch):
    paths = ("first/model.onnx", "second/model.onnx", "some/other.onnx")
    rows = tuple(replace(row("toy"), path=path) for path in paths)
    monkeypatch.setattr(command, "benchmark", lambda *_, **__: replace(RESULT, rows=rows))
    lines = run(artifacts["onnx"]).stdout.splitlines()
    named = [line.split()[0] for line in lines if "toy     90.0%" in line]
    assert named == ["first/model.onnx", "second/model.onnx", "other.onnx"]


def test_a_model_without_times_passes_no_gate(artifacts, monkeypatch):
    monkeypatch.setattr(command, "benchmark", lambda *_, **__: RESULT)
    result = run(artifacts["onnx"], "--min-speedup", 0.1, "--json")
    assert result.exit_code == 1
    assert f"is not known for --min-speedup ×0.10: '{artifacts['onnx']}' was not" in result.stderr
    (gate,) = json.loads(result.stdout)["gates"]
    assert (gate["value"], gate["passed"]) == (None, False)


def test_the_verdict_is_in_words(artifacts, monkeypatch):
    monkeypatch.setattr(command, "benchmark", lambda *_, **__: RESULT)
    shown = run(artifacts["onnx"]).stdout
    assert "slower than its dense twin in onnxruntime: 0.40 to 0.60 times as fast" in shown
    assert "mnn is left out: it is not installed" in shown
    assert "toy 1.2" in shown
    dense = row("onnxruntime", speedup=(1.0, 1.0, 1.0))
    level = benchmark_display._verdict(row("onnxruntime", speedup=(1.17, 0.9, 1.3)), dense)
    assert level.endswith("level with its dense twin in onnxruntime.")
    fast = row("toy engine", speedup=(3.41, 3.2, 3.6))
    assert benchmark_display._verdict(fast, dense).endswith(
        "3.20 to 3.60 times as fast as its dense twin in onnxruntime."
    )
    assert "as its dense fp32 twin in" in benchmark_display._verdict(
        replace(fast, precision="int8"), dense
    )
