"""`sparsify plan` as a user runs it, in the format that is made fastest."""

import json

import onnx
import pytest
from click.testing import CliRunner
from rich.console import Console

from sparsify.benchmarks.inference import budget
from sparsify.benchmarks.inference.benchmark import Latency
from sparsify.benchmarks.inference.budget import Budget, Fit
from sparsify.benchmarks.machine import describe_machine
from sparsify.cli import display, plan_display, tables
from sparsify.cli.main import main
from sparsify.exporters.onnx import writing

pytestmark = pytest.mark.usefixtures("short_benchmark")
TINY = "model.options={channels: 16, aggregation_channels: 64, embedding_dim: 24}"


@pytest.fixture(autouse=True)
def quick(artifacts, monkeypatch):
    """The graph is known, and gets the weights of every mask; there are few masks."""
    graph = onnx.load(artifacts["onnx"])
    del graph.metadata_props[:]

    def with_weights(model, _):
        state = model.state_dict()
        for initializer in graph.graph.initializer:
            if initializer.name in state:
                values = state[initializer.name].numpy()
                initializer.CopyFrom(onnx.numpy_helper.from_array(values, initializer.name))
        return graph

    monkeypatch.setattr(writing, "_graph", with_weights)
    monkeypatch.setattr(budget, "GRID", (0.0, 0.9))


def run(*arguments):
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


def test_as_json(artifacts):
    result = run(artifacts["run"], "--format", "onnx", "--max-macs", 0.3, "--frames", 20, "--json")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed["sparsity"] == pytest.approx(0.7, abs=0.02)
    rows = {round(row["sparsity"], 2): row for row in printed["rows"]}
    answer = rows[round(printed["sparsity"], 2)]
    assert list(rows) == sorted(rows)
    assert {0.0, 0.9} < rows.keys()
    assert answer["macs"] <= 0.3
    assert {"median_ms", "speedup_low", "bytes", "zipped_bytes", "frames"} <= answer.keys()
    gate = {"name": "max_macs", "threshold": 0.3, "value": answer["macs"], "passed": True}
    assert printed["gates"] == [gate]
    assert f"--init-from {artifacts['run']} --target-macs 0.3 --data" in printed["command"]


def test_the_proposed_output_is_free(artifacts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
    result = run(artifacts["run"], "--format", "onnx", "--max-macs", 0.3, "--frames", 20, "--json")
    assert json.loads(result.stdout)["command"].endswith(" --output run-3")


def test_what_no_zeros_make_smaller_is_said():
    options = ("--format", "onnx", "--max-bytes", 1000, "--frames", 20, "--set", TINY)
    result = run("ecapa-tdnn", *options)
    assert result.exit_code == 1
    assert "No sparsity fits --max-bytes 1 kB: with 90.0% zeros it is" in result.stdout
    assert "A file of format onnx does not get smaller by zeros: only where it is" in result.stdout
    assert "is above --max-bytes 1 kB" in result.stderr
    assert "sparsify train" not in result.stdout


def fit(sparsity):
    row = Latency(
        *("native", "sparse", "fp32", 1, 1, 200, 12.25, 13.5, 11.75),
        *(2.0, 1.9, 2.1, 0.01, 10**8, 10**7, 10**6, "model", sparsity),
    )
    return Fit(row, 1 - sparsity)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_any_terminal(width, monkeypatch, capsys):
    screen = Console(width=width, highlight=False)
    for module in (plan_display, tables, display):
        monkeypatch.setattr(module, "out", screen)
    fits = tuple(fit(sparsity) for sparsity in (0.0, 0.9, 0.995))
    plan_display.show_plan(
        "m", "native", Budget(describe_machine({}), fits, fits[0]), {"max_ms": 20.0}, None
    )
    printed = capsys.readouterr().out
    assert "The dense network fits --max-ms 20 ms as it is: 12.2 ms." in " ".join(printed.split())
    table = printed.splitlines()[2:6]
    assert max(len(line) for line in table) <= width
    assert table[0].split()[:3] == ["Zeros", "Median", "ms"]
    assert table[0].split()[-1] == "Fits"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ecapa-tdnn"], "give a budget"),
        (["ecapa-tdn", "--max-ms", 1], "no model of that name"),
        (["{run}", "--max-ms", 1, "--set", "seed=1"], "--set goes with the name of a model"),
        (["ecapa-tdnn", "--max-ms", 1, "--precision", "fp16"], "fp16"),
        (["ecapa-tdnn", "--max-ms", 1, "--precision", "int8"], "takes speech"),
        (["ecapa-tdnn", "--max-ms", 1, "--format", "safetensors"], "onnx, mnn or native"),
        (["{pt}", "--max-ms", 1], "does not say"),
    ],
)
def test_bad_input_is_one_sentence(arguments, words, artifacts, refused):
    known = {name: str(path) for name, path in artifacts.items()}
    filled = [str(each).format(**known) for each in arguments]
    refused(run("--format", "onnx", *filled), words)


def test_help_shows_an_example():
    assert "sparsify plan ecapa-tdnn-512 --format native" in run("--help").stdout
