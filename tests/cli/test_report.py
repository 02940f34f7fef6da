"""`sparsify report` as a user runs it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from sparsify.benchmarks.inference.speedup import Speedup
from sparsify.cli import report_summary
from sparsify.cli.main import main
from sparsify.corpus.synthetic import write_synthetic
from sparsify.report.summary import Measured
from sparsify.verification.protocol import Loss
from sparsify.verification.trials import make_trials, write_trials


def report(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_a_page_of_runs(comparison, tmp_path, refused):
    page = tmp_path / "report.html"
    runs = [comparison / "runs" / name for name in ("dense-seed0", "linbreg-0.9-seed1")]
    result = report(*runs, "--output", page, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"path": str(page), "runs": 2, "gates": []}
    assert "linbreg" in page.read_text()
    refused(report(tmp_path, "--output", page), tmp_path)


def test_another_model_in_a_run_is_noticed(comparison, tmp_path, refused):
    run = shutil.copytree(comparison / "runs" / "linbreg-0.9-seed1", tmp_path / "run")
    shutil.copy(comparison / "runs" / "dense-seed0" / "model.safetensors", run)
    refused(report(run, "--output", tmp_path / "r.html"), "is not the model that was trained there")


def test_parts_with_a_name_are_kept_apart(comparison, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    Path("lr=2").symlink_to(comparison / "runs" / "linbreg-0.9-seed1")  # a path, not a name
    paths = [comparison / "runs" / "linbreg-0.9-seed0", "lr=2", f"fine-tuned={Path('lr=2')}"]
    result = report(*paths, "--output", "results.json")
    assert result.exit_code == 0, result.output
    means = json.loads(Path("results.json").read_text())["means"]
    assert [(entry["cell"], entry["seeds"]) for entry in means] == [
        ("linbreg@0.9", [0, 1]),
        ("linbreg-fine-tuned@0.9", [1]),
    ]
    refused(report("name=absent", "--output", "x.md"), "'absent'")


def test_gates_are_decided_without_runs_and_data(comparison, tmp_path, refused):
    results = tmp_path / "results.json"
    assert report(comparison / "runs" / "linbreg-0.5-seed0", "--output", results).exit_code == 0

    def gated(condition):
        return report(results, "--output", tmp_path / "page.html", "--fail-if", condition)

    assert gated("linbreg@0.5.sparsity < 0.5").exit_code == 0
    failed = gated("linbreg@0.5.nonzero > 0")
    assert failed.exit_code == 1
    assert "linbreg@0.5.nonzero > 0 holds" in failed.stderr
    conditions = ("linbreg@0.5.sparsity < 0.5", "linbreg@0.5.nonzero > 1 + 1 or 1 > 2")
    options = [option for each in conditions for option in ("--fail-if", each)]
    both = report(results, "--output", tmp_path / "page.html", "--json", *options)
    assert both.exit_code == 1
    assert json.loads(both.stdout)["gates"] == [
        {"name": conditions[0], "threshold": 0.5, "value": 0.5, "passed": True},
        {"name": conditions[1], "threshold": None, "value": None, "passed": False},
    ]
    refused(gated("linbreg@0.6.nonzero > 0"), "nothing was compared as 'linbreg@0.6'")
    content = json.loads(results.read_text())
    results.write_text(json.dumps(content | {"failures": {"a": "b"}}))
    assert "1 of 2 runs failed" in gated("linbreg@0.5.sparsity < 0.5").stderr


def test_a_file_of_no_known_format_is_refused(comparison, tmp_path, refused):
    file = tmp_path / "results.xml"
    refused(report(comparison / "runs" / "dense-seed0", "--output", file), ".csv")
    assert not file.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other.jsonl", "or their results.json"),
        ("begun", "has no results yet"),
        ("nothing", "there is no"),
    ],
)
def test_what_is_no_result_is_said_to_be_none(name, words, tmp_path, refused):
    (tmp_path / "other.jsonl").write_text("{}\n{}\n")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "comparison.yaml").write_text("{}")
    refused(report(tmp_path / name, "--output", tmp_path / "report.html"), words)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Four voices and a trial list of them."""
    root = tmp_path_factory.mktemp("spoken")
    corpus = write_synthetic(root / "audio", 4, 3, seed=5)
    keys = [utterance.key for utterance in corpus.utterances]
    trials = make_trials(keys, [utterance.speaker for utterance in corpus.utterances], seed=0)
    write_trials(trials, root / "trials.txt")
    return ["--trials", root / "trials.txt", "--audio-root", root / "audio"]


def test_a_summary_against_a_baseline(artifacts, spoken, tmp_path, monkeypatch):
    row = SimpleNamespace(engine="onnxruntime", median_ms=1.5, frames=200)
    times = SimpleNamespace(fastest=lambda path: [row] if path.endswith(".onnx") else [])
    times.speedup_over = lambda row, other: Speedup(1.0, 1.0, 1.0)
    times.machine, times.rows = SimpleNamespace(cpu="a processor", isa="AVX2"), [row]
    monkeypatch.setattr(report_summary, "benchmark", lambda *_, **__: times)
    output = tmp_path / "summary.md"
    against = ["--baseline", artifacts["run"], *spoken, "--output", output, "--benchmark"]
    result = report(artifacts["onnx"], *against, "--max-eer-loss", 0.5, "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    (gate,) = printed["gates"]
    assert (gate["name"], gate["threshold"], gate["passed"]) == ("max_eer_loss", 0.5, True)
    (model,) = printed["artifacts"]
    assert model["path"] == str(artifacts["onnx"])
    assert model["bytes"] == artifacts["onnx"].stat().st_size
    assert model["eer_percent"] == pytest.approx(printed["baseline"]["eer_percent"], abs=1e-9)
    assert model["eer_loss_interval"] == pytest.approx([0, 0], abs=1e-3)
    assert (model["engine"], model["median_ms"]) == ("onnxruntime", 1.5)
    first, *_ = output.read_text().splitlines()
    assert first.startswith(f"**`{artifacts['onnx']}`**, against `{artifacts['run']}`: **")
    for words in (f"{printed['baseline']['eer_percent']:.2f} (", "not measured", "a processor"):
        assert words in output.read_text()


@pytest.mark.parametrize(
    ("losses", "names"),
    [
        ({"a.onnx": 0.1}, ["max_eer_loss"]),
        ({"a.onnx": 0.1, "b.onnx": 0.9}, ["max_eer_loss of a.onnx", "max_eer_loss of b.onnx"]),
    ],
)
def test_every_gate_has_a_name_of_its_own(losses, names):
    def measured(name, loss):
        outcome = SimpleNamespace(loss_against=lambda _: Loss(loss, (-1, 1), 95))
        return Measured(name, outcome, bytes=1, zipped_bytes=1)

    models = [measured(*each) for each in losses.items()]
    gates = report_summary.Summary([measured("dense", 0), *models], None).gates(0.5)
    assert [gate.to_json()["name"] for gate in gates] == names
    assert [gate.passed for gate in gates] == [loss <= 0.5 for loss in losses.values()]
    assert all("--max-eer-loss 0.5 points" in str(gate) for gate in gates)


def test_usage_of_a_baseline(artifacts, spoken, tmp_path, refused):
    against = [artifacts["onnx"], "--baseline", artifacts["run"]]
    output = ["--output", tmp_path / "summary.md"]
    refused(report(*against, *output), "--baseline needs --trials")
    refused(report(*against, *spoken), "end in .md")
    refused(report(*against, *spoken, *output, "--fail-if", "a.b > 1"), "--max-eer-loss")
    refused(report(artifacts["run"], "--max-eer-loss", 0), "--max-eer-loss has a meaning only")
    refused(report(artifacts["run"], *spoken), "--trials has a meaning only with --baseline")
    refused(report("absent.onnx", *against[1:], *spoken, *output), "no such file")
    assert list(tmp_path.iterdir()) == []
