"""`sparsify train` as a user runs it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml
from click.testing import CliRunner

from sparsify.artifact.loading import load_artifact
from sparsify.cli.main import main
from sparsify.models.registry import build_model
from sparsify.sparsity.counting import sparsity_table
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.training.distributed import Processes
from sparsify.training.learner import Learner

TINY = {
    "model.options": "{channels: 16, aggregation_channels: 32, embedding_dim: 16}",
    "data.synthetic_speakers": 6,
    "data.synthetic_utterances": 3,
    "data.validation_speakers": 2,
    "data.crop_seconds": 0.4,
    "training.steps": 4,
    "training.batch_size": 8,
    "training.workers": 0,
    "training.batch_norm_batches": 2,
    "training.compile": "false",
}


def run(*arguments, **settings):
    sets = [f"--set={key}={value}" for key, value in (TINY | settings).items()]
    return CliRunner().invoke(main, ["train", *map(str, arguments), *sets])


def write_speech(folder, speakers=4, utterances=3, rate=16000, channels=1):
    rng = np.random.default_rng(0)
    for speaker in range(speakers):
        for number in range(utterances):
            path = folder / f"spk{speaker}" / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, rng.normal(0, 0.1, (rate, channels)), rate)
    return folder


@pytest.fixture
def speech(tmp_path):
    return write_speech(tmp_path / "speech")


def test_json_is_all_there_is_on_stdout(tmp_path):
    result = run("--output", tmp_path / "run", "--target-sparsity", 0.75, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["target_sparsity"] == 0.75
    assert abs(summary["sparsity"] - 0.75) < 0.001
    assert "ecapa-tdnn" in result.stderr
    assert " thread" in result.stderr


def test_a_target_in_multiply_adds(tmp_path, refused):
    result = run("--output", tmp_path / "run", "--target-macs", 0.2)
    assert result.exit_code == 0, result.output
    assert "adabreg to 20.00% of the multiply-adds" in result.stderr
    assert "of the multiply-adds, validation" in result.stdout
    assert "target 20% of MACs" in (tmp_path / "run" / "report.html").read_text()
    assert run("--output", tmp_path / "run", "--target-macs", 0.2, "--resume").exit_code == 0
    both = ("--target-macs", 0.2, "--target-sparsity", 0.9)
    refused(run("--output", tmp_path / "both", *both), "exclude each other")
    refused(run("--output", tmp_path / "none", "--target-macs", 10), "did you mean 0.1?")


def test_quiet_says_nothing_but_the_result(tmp_path):
    result = run("--output", tmp_path / "run", "-q")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "sparsity 9" in result.stdout
    assert "Saved to" in result.stdout


def test_resume_takes_the_saved_recipe(tmp_path, refused):
    assert run("--output", tmp_path / "run").exit_code == 0
    again = CliRunner().invoke(main, ["train", "--output", str(tmp_path / "run"), "--resume"])
    assert again.exit_code == 0
    assert "complete" in again.stderr
    same = run("--output", tmp_path / "run", "--resume")
    assert same.exit_code == 0, same.output
    refused(
        run("--output", tmp_path / "run", "--resume", "--seed", 5),
        "other settings than given now (seed was 0 and is 5)",
    )
    refused(run("--output", tmp_path / "run"), "holds a run already")


def test_a_complete_run_gets_the_report_that_a_kill_has_cost_it(tmp_path, refused):
    output = tmp_path / "run"
    assert run("--output", output, "--method", "dense").exit_code == 0
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    (output / "report.html").unlink()
    resume = ["train", "--resume", "--output", str(output)]
    assert CliRunner().invoke(main, resume).exit_code == 0
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    moved = output.rename(tmp_path / "moved")
    assert f"Saved to {moved}" in CliRunner().invoke(main, [*resume[:-1], str(moved)]).output
    moved.rename(output)
    for text in ("{}", '{"method": 3, "sparsity": "much"}'):
        (output / "summary.json").write_text(text)
        refused(CliRunner().invoke(main, resume), "summary.json' is damaged")


def test_another_recipe_is_accepted_on_request(tmp_path, refused):
    output = tmp_path / "run"
    assert run("--output", output, "--method", "dense").exit_code == 0
    (output / "summary.json").unlink()  # as if killed before it was written
    recipe = output / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("workers: 0", "workers: 1"))
    resume = ["train", "--resume", "--output", str(output)]
    refused(CliRunner().invoke(main, resume), "training.workers was 0 and is 1", "--accept-changes")
    result = CliRunner().invoke(main, [*resume, "--accept-changes"])
    assert result.exit_code == 0, result.output
    assert "Changed at a resume: training.workers was 0 and is 1." in result.stdout
    assert run("--output", tmp_path / "new", "--accept-changes").exit_code == 2


@pytest.mark.parametrize("method", ["adabreg", "linbreg", "gmp", "dense"])
def test_every_method_on_audio_files(method, speech, tmp_path):
    result = run("--data", speech, "--method", method, "--output", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    target = 0.0 if method == "dense" else 0.9
    assert abs(json.loads(result.stdout)["sparsity"] - target) < 0.001


def test_other_rates_and_channels_are_handled(tmp_path):
    speech = write_speech(tmp_path / "speech", rate=8000, channels=2)
    result = run("--data", speech, "--output", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["skipped"] == 0


def test_broken_files_are_skipped_or_refused(speech, tmp_path, refused):
    (speech / "spk0" / "bad.wav").write_text("no audio")
    whole = (speech / "spk1" / "0.wav").read_bytes()
    (speech / "spk1" / "cut.wav").write_bytes(whole[: len(whole) // 2])
    result = run("--data", speech, "--output", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["skipped"] == 2
    assert "2 files skipped" in result.stderr
    listed = run("--data", speech, "--output", tmp_path / "listed", "-v")
    assert "bad.wav" in listed.stderr
    assert "cut.wav" in listed.stderr
    refused(run("--data", speech, "--strict", "--output", tmp_path / "strict"), ".wav")
    assert not (tmp_path / "strict").exists()


def test_bad_data_is_named(tmp_path, speech, refused):
    output = tmp_path / "run"
    refused(run("--data", tmp_path / "nosuch", "--output", output), "nosuch")
    (tmp_path / "empty").mkdir()
    refused(run("--data", tmp_path / "empty", "--output", output), "empty")
    refused(
        run("--data", speech, "--output", output, **{"data.validation_speakers": 3}),
        "validation",
    )
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "adabrag"], ["did you mean 'adabreg'"]),
        (
            ["--target-sparsity", "1"],
            ["not a share between 0 and 1, such as 0.9"],
        ),
        (
            ["--target-sparsity", "0"],
            ["not a share between 0 and 1, such as 0.9"],
        ),
        (["--target-sparsity", "-0.5"], ["--target-sparsity"]),
        (["--model", "ecapa"], ["unknown model"]),
        (["--recipe", "nosuch"], ["quickstart"]),
        (["--set", "training.stepz=1"], ["steps"]),
        (["--method", "gmp", "--lambda-rule", "quantile"], ["'gmp'", "adabreg, linbreg"]),
        (
            ["--method", "prescribed-l1", "--lambda-rule", "fixed"],
            ["'prescribed-l1' has no λ rule"],
        ),
        (
            ["--method", "linbreg-fixed", "--lambda-rule", "fixed"],
            ["'linbreg-fixed' has no λ rule"],
        ),
        (["--method", "linbrag", "--lambda-rule", "fixed"], ["did you mean 'linbreg'"]),
        (["--lambda-rule", "fixed"], ["lambda_value"]),
        (["--method", "dense", "--target-sparsity", "0.9"], ["'dense' prunes nothing"]),
        (["--method", "dense", "--target-macs", "0.1"], ["leave --target-macs away"]),
        (["--method", "adabreg-fixed"], ["--set methods.adabreg-fixed.lambda_value="]),
        (["--resume"], ["nothing to resume"]),
    ],
)
def test_wrong_usage_is_one_sentence(arguments, words, tmp_path, refused):
    refused(run("--output", tmp_path / "run", *arguments), *words)
    assert not (tmp_path / "run").exists()


def test_existing_output_is_refused(tmp_path, refused):
    (tmp_path / "notes.txt").write_text("keep")
    refused(run("--output", tmp_path), "not empty")
    (tmp_path / "file").write_text("")
    refused(run("--output", tmp_path / "file"), "file")
    assert (tmp_path / "notes.txt").read_text() == "keep"


def test_dry_run_describes_the_run_and_writes_nothing(speech, tmp_path, made):
    before = sorted(tmp_path.rglob("*"))
    arguments = ["--dry-run", "--output", tmp_path / "run", "--data", speech]
    result = run("--json", *arguments, **{"model.ignore": "[layer1.*]"})
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert made == {"ecapa-tdnn": 1, "methods.adabreg": 1}
    assert found["recipe"]["training"]["steps"] == 4
    model = build_model("ecapa-tdnn", channels=16, aggregation_channels=32, embedding_dim=16)
    counts = found["parameters"]
    assert counts["total"] == sum(p.numel() for p in model.parameters())
    assert counts["protected"] == model.layer1.conv.weight.numel()
    assert counts["prunable"] + counts["protected"] + counts["free"] == counts["total"]
    assert counts["training_only"] == 16 * 2 * 3  # two speakers at three speeds
    assert (found["data"]["speakers"], found["data"]["utterances"]) == (2, 6)
    assert found["data"]["hours"] == pytest.approx(6 / 3600, abs=1e-3)
    weights = 4 * (counts["total"] + counts["training_only"])
    assert found["estimate"]["weight_bytes"] == found["estimate"]["gradient_bytes"] == weights
    assert found["estimate"]["optimizer_bytes"] >= 2 * weights  # AdaBreg keeps moments and duals
    assert found["estimate"]["training_seconds"] > 0
    text = run(*arguments)
    assert "target_sparsity: 0.9" in text.stdout
    assert "# memory: " in text.stdout
    assert yaml.safe_load(text.stdout) == found["recipe"] | {
        "model": found["recipe"]["model"] | {"ignore": []}
    }
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_crops_that_few_utterances_fill_are_warned_of(dry, speech, tmp_path):
    arguments = ["--data", speech, "--output", tmp_path / "run", *dry]
    margin = {"training.steps": 2, "objective.large_margin": "{begin: 0.5, crop_seconds: 2}"}
    warned = run(*arguments, **margin)
    assert warned.exit_code == 0, warned.output
    (line,) = (line for line in warned.stderr.splitlines() if "crop_seconds" in line)
    assert "objective.large_margin.crop_seconds 2 s" in line
    again = tmp_path / "again"
    assert "crop_seconds" not in run(*arguments[:3], again, *dry, **TINY).stderr
    margin |= {"data.crop_seconds": 1.5, "objective.large_margin": "{begin: 1}"}
    other = run(*arguments[:3], tmp_path / "other", *dry, **margin)
    assert "data.crop_seconds 1.5 s" in other.stderr
    assert "large_margin" not in other.stderr


@pytest.mark.parametrize("worse", [0.0, 1.0])
def test_an_average_is_announced(worse, tmp_path, monkeypatch):
    errors = iter([5.0, 5.0, 5.0, 5.0 + worse])  # of equals the latest is delivered

    def figures(*_):
        return {"eer_percent": next(errors), "min_dcf": 1.0}

    monkeypatch.setattr("sparsify.training.trainer.validation_figures", figures)
    settings = {"training.validate_every": 2, "training.steps": 6, "training.average": 2}
    result = run("--method", "dense", "--output", tmp_path / "run", **settings)
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.stderr.splitlines() if "average of" in line)
    assert line.startswith("average of 2 models (steps 4 to 6)")
    assert ("EER 6.00%" in line) == bool(worse)
    assert line.endswith(" *") == (not worse)
    delivered = "the average of 2 models (steps 4 to 6)"
    assert (delivered in result.stdout.replace("\n", " ")) == (not worse)


def write_manifest(path, speech, missing=()):
    """All utterances, their durations given, so that nobody need look at the files."""
    names = [*sorted(p.relative_to(path.parent) for p in speech.rglob("*.wav")), *missing]
    rows = [f"{name.parent.name},{name},1" for name in names]
    path.write_text("\n".join(["speaker,path,seconds", *rows]))
    return path


def test_dry_run_leaves_out_files_that_are_missing(speech, tmp_path, refused):
    gone = [Path("speech/spk0/gone.wav"), Path("speech/alone/1.wav"), Path("speech/spk1/gone.wav")]
    manifest = write_manifest(tmp_path / "list.csv", speech, gone)
    arguments = ["--dry-run", "--data", manifest, "--output", tmp_path / "run"]
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)["data"]
    assert data["utterances"] + data["validation_utterances"] == 12
    assert data["speakers"] + data["validation_speakers"] == 4
    assert (data["files_looked_at"], data["files_missing"], data["skipped"]) == (14, 2, 3)
    assert "2 of 14 files looked at are missing" in run(*arguments).stdout
    refused(run(*arguments, "--strict"), "mend or remove")


def test_dry_run_looks_at_a_sample_of_many_files(speech, tmp_path, monkeypatch):
    monkeypatch.setattr("sparsify.training.preview._MOST_FILES", 10)
    gone = [Path(f"speech/spk{k % 4}/gone{k}.wav") for k in range(12)]
    manifest = write_manifest(tmp_path / "list.csv", speech, gone)
    arguments = ["--dry-run", "--data", manifest, "--json"]
    first, again = (json.loads(run(*arguments).stdout)["data"] for _ in range(2))
    assert first == again
    assert first["files_looked_at"] == 10
    assert 0 < first["files_missing"] < 10
    assert first["utterances"] + first["validation_utterances"] == 24 - first["files_missing"]


def test_dry_run_tells_the_share_of_a_process(monkeypatch, tmp_path, refused):
    def estimate(**settings):
        content = json.loads(run("--dry-run", "--json", **settings).stdout)
        kept = ("weight_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes")
        return content, [content["estimate"][key] for key in kept]

    _, half = estimate(**{"training.batch_size": 4})
    monkeypatch.setattr("sparsify.training.preview.processes", lambda: Processes(0, 2, 0, 2))
    content, found = estimate()
    assert found == half
    assert content["data"]["steps_per_epoch"] == 4 * 3 / 8
    assert content["estimate"]["processes"] == 2
    assert "in each of 2 processes" in run("--dry-run").stdout
    refused(run("--dry-run", **{"training.batch_size": 9}), "2 processes cannot share")


def test_dry_run_refuses_what_the_run_would(tmp_path, refused):
    (tmp_path / "notes.txt").write_text("keep")
    refused(run("--dry-run", "--output", tmp_path), "not empty")
    (tmp_path / "recipe.yaml").write_text("{}")
    refused(run("--dry-run", "--output", tmp_path), "holds a run already", "--resume")


def test_dry_run_knows_mistakes(tmp_path, refused):
    refused(run("--dry-run", "--data", tmp_path / "nosuch"), "nosuch")
    refused(run("--dry-run", "--init-from", "nowhere"), "nowhere")


def test_another_model_does_not_inherit_the_recipes_options(monkeypatch):
    monkeypatch.setattr("sparsify.cli.train.preview", lambda *_, **__: {})
    arguments = ["train", "--model", "ecapa-tdnn-512", "--dry-run", "--json"]
    resolved = json.loads(CliRunner().invoke(main, arguments).stdout)["recipe"]
    assert resolved["model"]["name"] == "ecapa-tdnn-512"
    assert resolved["model"]["options"] == {}


def test_starts_from_another_model(tmp_path, refused, made):
    """A dense model becomes sparse, and that one sparser, with the weights it has."""
    dense, first, second = (tmp_path / name for name in ("dense", "first", "second"))
    assert run("--method", "dense", "--output", dense).exit_code == 0
    made.clear()
    start = ["train", "--init-from"]
    few = ["--set=training.steps=2", "--set=data.synthetic_speakers=6", "--set=training.workers=0"]
    few += ["--set=data.synthetic_utterances=3", "--set=data.validation_speakers=2"]
    few += ["--set=training.compile=false", "--set=methods.adabreg.lr=1e-9"]
    target = ["--target-sparsity", "0.5", "--output"]
    result = CliRunner().invoke(main, [*start, str(dense), *target, str(first), *few])
    assert result.exit_code == 0, result.output
    assert made == {"ecapa-tdnn": 1, "methods.adabreg": 1}
    before, after = (load_artifact(path).state["layer1.conv.weight"] for path in (dense, first))
    assert before.shape == after.shape  # though the recipe's model is another
    kept = after != 0
    assert 0 < kept.float().mean() < 1
    assert before[kept].abs().min() > 0.999 * before[~kept].abs().max()  # hardly trained
    target = ["--target-sparsity", "0.8", "--output"]
    model = str(first / "model.safetensors")
    result = CliRunner().invoke(main, [*start, model, *target, str(second), *few])
    assert result.exit_code == 0, result.output
    sparser = load_artifact(second).state["layer1.conv.weight"]
    assert not (sparser[~kept] != 0).any()
    wrong = [*start, model, "--set=model.options.channels=8", "--output", str(tmp_path / "wrong")]
    refused(CliRunner().invoke(main, [*wrong, *few]), model, "does not fit")
    refused(
        CliRunner().invoke(main, [*start, "nowhere", "--output", str(tmp_path / "x")]), "nowhere"
    )


FEW = ["training.steps=4", "data.synthetic_speakers=6", "training.workers=0"]
FEW += ["data.synthetic_utterances=3", "data.validation_speakers=2", "training.batch_size=4"]


def go_on(start, *arguments):
    few = [f"--set={assignment}" for assignment in FEW]
    arguments = ["train", "--init-from", start, *few, *arguments]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_sparse_start_without_a_target_keeps_its_zeros(artifacts, sparse_model, tmp_path):
    """From a graph, and from what that has become."""
    sparsity = sparsity_table(sparse_model).sparsity
    first, second = tmp_path / "first", tmp_path / "second"
    result = go_on(artifacts["onnx"], "--output", first)
    assert result.exit_code == 0, result.output
    assert f"its {sparsity:.2%} zeros are held to the end" in result.stderr
    result = go_on(first, "--method", "dense", "--output", second)
    assert result.exit_code == 0, result.output
    assert f"Next: sparsify export {second}" in result.stderr
    summary = json.loads((second / "summary.json").read_text())
    assert summary["start"] == {"path": str(first), "sparsity": sparsity, "zeros": "held"}
    assert summary["target_sparsity"] == summary["sparsity"] == sparsity
    prunable = prunable_parameters(sparse_model)
    for path in (first, second):
        trained = load_artifact(path).build()
        for name, weight in prunable.items():
            assert torch.equal(trained.get_parameter(name) == 0, weight == 0)
        same = [torch.equal(trained.get_parameter(n), weight) for n, weight in prunable.items()]
        assert not all(same)


@pytest.mark.parametrize("kind", ["dense", "bitmask", "coded", "onnx", "run"])
def test_the_target_is_that_of_a_sparse_start(kind, artifacts, sparse_model, monkeypatch):
    monkeypatch.setattr("sparsify.cli.train.preview", lambda *_, **__: {})

    def target(*arguments):
        result = go_on(artifacts[kind], "--dry-run", "--json", *arguments)
        return json.loads(result.stdout)["recipe"]["target_sparsity"]

    assert target() == sparsity_table(sparse_model).sparsity
    assert target("--target-sparsity", 0.9) == target("--set", "target_sparsity=0.9") == 0.9
    assert target("--target-macs", 0.1) is None


def test_dry_run_says_what_becomes_of_the_zeros(artifacts, sparse_model, refused):
    def shown(*arguments):
        return go_on(artifacts["coded"], "--dry-run", "--method", "gmp", *arguments)

    zeros = f"{sparsity_table(sparse_model).sparsity:.2%} zeros"
    start = f"# from '{artifacts['coded']}': its {zeros}"
    for arguments, fate in (((), "are held to"), (("--target-sparsity", 0.9), "stay, and others")):
        (line,) = (each for each in shown(*arguments).stdout.splitlines() if start in each)
        assert fate in line
    refused(shown("--target-sparsity", 0.5), "revives no weights", "ask for none to keep")
    grown = shown("--target-sparsity", 0.5, "--method", "adabreg", "--json")
    assert json.loads(grown.stdout)["start"]["zeros"] == "revived"


def test_a_trial_list_takes_the_place_of_held_out_speakers(speech, tmp_path, refused):
    (tmp_path / "trials").write_text("1 spk0/0 spk0/1\n0 spk0/0 spk1/2.wav\n")
    others = write_speech(tmp_path / "others", speakers=2)
    validation = ["--validation-trials", tmp_path / "trials", "--validation-root", others]
    arguments = ["--data", speech, "--output", tmp_path / "run"]
    foreseen = json.loads(run(*arguments, *validation, "--dry-run", "--json").stdout)["data"]
    assert (foreseen["speakers"], foreseen["utterances"]) == (4, 12)
    assert (foreseen["validation_speakers"], foreseen["validation_utterances"]) == (0, 3)
    result = run(*arguments, *validation, "--json")
    assert result.exit_code == 0, result.output
    assert "4 speakers, 12 utterances" in result.stderr
    assert "a list of 2 trials" in result.stderr
    assert "are in" not in result.stderr
    assert json.loads(result.stdout)["eer_percent"] in (0, 50, 100)
    recipe = load_artifact(tmp_path / "run" / "model.safetensors").recipe
    assert str(tmp_path) not in recipe.to_yaml()
    same = run("--data", speech, *validation[:3], speech, "--output", tmp_path / "again")
    assert "3 training utterances are in" in same.stderr
    refused(run(*arguments[:2], *validation[:2], "--output", tmp_path / "half"), "belong together")
    wrong = run(*arguments[:2], *validation[:3], tmp_path, "--output", tmp_path / "wrong")
    refused(wrong, "--validation-root must be")
    (tmp_path / "trials").write_text("1 spk0/0 spk0/1\n")
    refused(run(*arguments[:2], *validation, "--output", tmp_path / "wrong"), "target and nontarg")


def test_audio_of_unknown_speakers_is_learnt_from_a_teacher(tmp_path, refused):
    """In one folder, none of it labelled."""
    assert run("--output", tmp_path / "teacher", "--seed", 3).exit_code == 0
    speech = write_speech(tmp_path / "flat", speakers=1, utterances=9) / "spk0"
    (tmp_path / "trials").write_text("1 spk0/0 spk0/1\n0 spk0/0 spk1/2.wav\n")
    others = write_speech(tmp_path / "others", speakers=2)
    validation = ["--validation-trials", tmp_path / "trials", "--validation-root", others]
    teach = {"distillation": f"{{teacher: {tmp_path / 'teacher'}, labels: false}}"}
    arguments = ["--recipe", "quickstart", "--data", speech, "--output", tmp_path / "pupil"]
    result = run(*arguments, *validation, **teach)
    assert result.exit_code == 0, result.output
    assert "unknown speakers, 9 utterances" in result.stderr
    assert "distillation 0." in result.stderr
    assert "accuracy" not in result.stderr
    refused(run(*arguments[:5], tmp_path / "x", *validation), "learn from a distillation.teacher")
    unlabelled = {"data.layout": "unlabelled"}
    refused(run(*arguments[:5], tmp_path / "x", **unlabelled), "nobody knows who speaks")


def test_a_collapsed_model_is_kept_and_marked_and_fails(tmp_path):
    collapse = {"model.keep_layers": "false"}
    arguments = ["--method", "gmp", "--target-sparsity", 0.9999, "--output", tmp_path / "run"]
    result = run(*arguments, "--json", **collapse)
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert f"Failed: the model has collapsed: {summary['collapsed']}" in result.stderr
    assert "protect it with --set" in summary["collapsed"]
    again = CliRunner().invoke(main, ["train", "--output", str(tmp_path / "run"), "--resume"])
    assert again.exit_code == 1
    assert "has collapsed" in again.stderr
    shown = CliRunner().invoke(main, ["inspect", str(tmp_path / "run"), "--json"])
    assert json.loads(shown.stdout)["collapsed"] == summary["collapsed"]
    target = str(tmp_path / "bitmask.safetensors")
    options = ["--format", "safetensors", "--layout", "bitmask", "--output", target]
    exported = CliRunner().invoke(main, ["export", str(tmp_path / "run"), *options])
    assert exported.exit_code == 0, exported.output
    assert "has collapsed in training" in exported.stderr
    assert load_artifact(Path(target)).metadata["collapsed"] == summary["collapsed"]


def test_an_interrupted_run_says_how_to_go_on(tmp_path, monkeypatch):
    update = Learner.update

    def interrupted(self, step, batch):
        if step == 3:
            raise KeyboardInterrupt
        return update(self, step, batch)

    monkeypatch.setattr(Learner, "update", interrupted)
    for validations, since in ((2, "the last validation"), (4, "the first step")):
        output = tmp_path / f"run {validations}"
        result = run("--output", output, **{"training.validate_every": validations})
        assert result.exit_code == 130
        told = f"Continue with: sparsify train --output '{output}' --resume (from {since})\n"
        assert result.stderr.endswith(f"{told}Interrupted.\n")
        for command in (["inspect"], ["export", "--format", "onnx", "--output", "x.onnx"]):
            refused = CliRunner().invoke(main, [command[0], str(output), *command[1:]])
            assert refused.exit_code == 2
            assert "is not complete: continue it with sparsify train" in refused.stderr
