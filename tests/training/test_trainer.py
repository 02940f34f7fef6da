"""Whole training runs on synthetic speakers, small enough for a test."""

import errno
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsify import SparsifyError, sparsity_table
from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact, load_model
from sparsify.artifact.seals import source_digest
from sparsify.audio.features import Filterbank
from sparsify.methods.registry import resolve
from sparsify.recipe.recipe import Recipe, load_recipe
from sparsify.training.batches import training_batches
from sparsify.training.data import load_data
from sparsify.training.run_directory import RunDirectory
from sparsify.training.trainer import train
from sparsify.verification.evaluate import evaluate_features

TINY = [
    "model.options={channels: 16, aggregation_channels: 32, embedding_dim: 16}",
    "data.synthetic_speakers=6",
    "data.synthetic_utterances=3",
    "data.validation_speakers=2",
    "data.crop_seconds=0.4",
    "training.steps=12",
    "training.batch_size=8",
    "training.log_every=2",
    "training.validate_every=4",
    "training.batch_norm_batches=2",
    "training.workers=0",
]
SUMMARY_KEYS = {
    *("method", "target_sparsity", "sparsity", "global_sparsity", "eer_percent", "min_dcf"),
    *("steps", "epochs", "seconds", "device", "seed", "model", "parameters", "nonzero", "output"),
}


def tiny_recipe(*more, **changes):
    return load_recipe("quickstart", [*TINY, *more], changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)  # as in every test, for the same rounding
    output = tmp_path_factory.mktemp("runs") / "run"
    return output, train(tiny_recipe(), output)


def test_what_was_killed_while_its_directory_was_made_can_be_begun_again(tmp_path):
    run = RunDirectory(tmp_path / "run")
    with run.locked():
        run.create(Recipe(), {"weight": torch.zeros(2)}, {})
    with pytest.raises(SparsifyError, match="holds a run already"):
        run.check_free()
    run.recipe_file.unlink()  # which is written last
    run.check_free()
    run.metrics_file.write_text("somebody's work")
    with pytest.raises(SparsifyError, match="not empty"):
        run.check_free()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(SparsifyError, match="not empty"):
        RunDirectory(tmp_path / "link").check_free()


def test_run_directory_holds_what_was_promised(finished):
    output, summary = finished
    names = {path.name for path in output.iterdir()}
    assert names == {
        "recipe.yaml",
        "model.safetensors",
        "metrics.jsonl",
        "summary.json",
        "checkpoints",
    }
    written = json.loads((output / "summary.json").read_text())
    assert written.pop("digests").keys() == {"recipe.yaml", "metrics.jsonl", "summary.json"}
    assert written == summary
    saved = load_recipe(output / "recipe.yaml")
    assert resolve(saved) == resolve(tiny_recipe())
    # A default that changes one day does not change what this run was.
    assert saved.methods["adabreg"]["initial_allocation"] == "erk"
    records = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4, 6, 8, 10, 12]
    for record in records:
        expected = {"step", "epoch", "loss", "accuracy", "sparsity", "lambda", "lr", "margin"}
        assert expected <= record.keys()
        assert record["gradient_norm"] > 0
        validated = record["step"] % 4 == 0
        assert ("eer_percent" in record) == validated
        assert ("corrupted_eer_percent" in record) == validated


def test_summary_describes_the_delivered_model(finished):
    output, summary = finished
    assert summary.keys() >= SUMMARY_KEYS
    artifact = load_artifact(output)
    model = artifact.build()
    nonzero = sum(int(np.count_nonzero(p.detach().numpy())) for p in model.parameters())
    assert summary["nonzero"] == nonzero
    assert summary["parameters"] == sum(p.numel() for p in model.parameters())
    assert abs(summary["sparsity"] - 0.9) < 0.001
    assert weights_table(artifact).at_least(0.9)
    assert resolve(artifact.recipe) == resolve(tiny_recipe())


def test_summary_eer_is_that_of_the_saved_file(finished):
    output, summary = finished
    model = load_model(output)
    data = load_data(tiny_recipe())

    def embed(features):
        with torch.no_grad():
            return model(torch.from_numpy(features)[None])[0].numpy()

    result = evaluate_features(embed, data.validation.features, data.validation.trials)
    assert result.eer_percent == pytest.approx(summary["eer_percent"], abs=1e-6)


@pytest.mark.parametrize("method", ["adabreg", "linbreg", "gmp"])
def test_selected_models_reach_the_target_and_the_latest_best_wins(method, tmp_path):
    recipe = tiny_recipe("training.steps=20", "training.validate_every=1", method=method)
    summary = train(recipe, tmp_path / "run")
    assert weights_table(load_artifact(tmp_path / "run")).at_least(0.9)
    records = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert len(records) == 20
    settled = 12 if method == "gmp" else 15  # the end of its schedule, landing
    on_target = [r for r in records if r["step"] >= settled and 0.9 - 1e-4 < r["sparsity"] <= 0.901]
    scores = {r["step"]: r["eer_percent"] + r["corrupted_eer_percent"] for r in on_target}
    lowest = min(scores.values())
    assert summary["selected_step"] == max(s for s, value in scores.items() if value == lowest)
    assert summary["selected_step"] >= settled


def test_batch_norm_of_a_delivered_model_is_that_of_the_last_batches(tmp_path):
    """The first layer's statistics, which depend on nothing before it, written out in float32."""
    recipe = tiny_recipe(
        "training.batch_norm_batches=5", "training.precision=bf16", "training.validate_every=12"
    )
    train(recipe, tmp_path / "run")
    model, data = load_model(tmp_path / "run"), load_data(recipe)
    batches = training_batches(data.train, data.cache, recipe, start_step=12 - 5)
    filterbank = Filterbank(recipe.front_end)
    with torch.no_grad():
        outputs = [
            model.layer1.conv(filterbank(waveforms).transpose(1, 2)).relu()
            for waveforms, _ in batches
        ]
    means = torch.stack([output.mean((0, 2)) for output in outputs]).mean(0)
    variances = torch.stack([output.var((0, 2)) for output in outputs]).mean(0)
    torch.testing.assert_close(model.layer1.bn.running_mean, means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.layer1.bn.running_var, variances, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stop", [3, 7, 11])
def test_interrupted_and_resumed_run_equals_a_straight_one(stop, finished, tmp_path, stop_at):
    output, straight = finished
    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe(), tmp_path / "resumed", observer=stop_at(stop))
    assert not (tmp_path / "resumed" / "summary.json").exists()
    resumed = train(tiny_recipe(), tmp_path / "resumed", resume=True)
    for key in ("sparsity", "eer_percent", "min_dcf", "nonzero", "selected_step"):
        assert resumed[key] == straight[key]
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "resumed" / name).read_bytes() == (output / name).read_bytes()


def test_seed_decides(tmp_path):
    short = "training.steps=4"
    runs = [
        train(tiny_recipe(short, seed=seed), tmp_path / str(k)) for k, seed in enumerate((3, 4))
    ]
    again = train(tiny_recipe(short, seed=3), tmp_path / "again")
    states = [load_artifact(run["output"]).arrays for run in (*runs, again)]
    assert source_digest(states[0]) == source_digest(states[2])
    assert source_digest(states[0]) != source_digest(states[1])


def test_existing_run_is_refused_and_untouched(finished):
    output, _ = finished
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    with pytest.raises(SparsifyError, match="--resume"):
        train(tiny_recipe(), output)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_foreign_directory_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(SparsifyError, match="not empty"):
        train(tiny_recipe(), tmp_path)


def test_failure_before_training_leaves_nothing_behind(tmp_path):
    with pytest.raises(SparsifyError, match="nosuch"):
        train(tiny_recipe(**{"data.path": str(tmp_path / "nosuch")}), tmp_path / "run")
    with pytest.raises(SparsifyError, match="multiple of 8"):
        train(tiny_recipe("model.options={channels: 9}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unwritable_output_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SparsifyError, match="not a writable directory"):
        train(tiny_recipe(), tmp_path / "file" / "run")


def test_two_trainings_in_one_directory_are_refused(finished, tmp_path):
    output = shutil.copytree(finished[0], tmp_path / "run")
    hold = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.lockf(lock, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    lock = RunDirectory(output).lock_file
    with subprocess.Popen(
        [sys.executable, "-c", hold, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(SparsifyError, match="another training is at work"):
            train(tiny_recipe(), output, resume=True)
        other.stdin.close()


def test_a_full_disk_is_said_to_be_one(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(SparsifyError, match=r"start\.pt': No space left on device"):
        train(tiny_recipe(), tmp_path / "run")


def test_layers_that_lose_all_weights_are_named(tmp_path, caplog):
    recipe = tiny_recipe(method="gmp", target_sparsity=0.999, **{"model.keep_layers": False})
    summary = train(recipe, tmp_path / "run")
    artifact = load_artifact(summary["output"])
    table = sparsity_table(artifact.build())
    (warning,) = [text for text in caplog.messages if "no weight is left in" in text]
    assert table.emptied[0] in warning
    assert "all utterances have the same embedding" in summary["collapsed"]
    assert artifact.metadata["collapsed"] == summary["collapsed"]


@pytest.mark.parametrize("method", ["adabreg", "gmp", "prox-sgd"])
def test_no_method_with_a_global_threshold_empties_a_layer(method, tmp_path):
    summary = train(tiny_recipe(method=method, target_sparsity=0.995), tmp_path / "run")
    table = sparsity_table(load_artifact(summary["output"]).build())
    assert not table.emptied
    assert table.sparsity == pytest.approx(0.995, abs=0.001)


def test_divergence_is_one_sentence(tmp_path):
    recipe = tiny_recipe(method="dense", **{"methods.dense.lr": 1e30})
    with pytest.raises(SparsifyError, match=r"diverged.*methods\.dense\.lr"):
        train(recipe, tmp_path / "run")


def test_landing_after_a_gradient_that_is_not_finite_is_one_sentence(tmp_path, monkeypatch):
    def poisoned(parameters, _):
        parameters[0].grad.fill_(torch.nan)
        return torch.tensor(1.0)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", poisoned)
    later = {"training.log_every": 100, "training.validate_every": 100}
    recipe = tiny_recipe(method="adabreg", **later)
    with pytest.raises(SparsifyError, match=r"diverged.*are NaN or infinite.*methods\.adabreg\.lr"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_model_that_does_not_fit_is_named(tmp_path):
    recipe = tiny_recipe(**{"model": {"name": "torch.nn:Linear"}})
    recipe = recipe.model_copy(
        update={
            "model": recipe.model.model_copy(
                update={"options": {"in_features": 3, "out_features": 2}}
            )
        }
    )
    with pytest.raises(SparsifyError, match="does not accept features"):
        train(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    ("patterns", "message"), [("[layr1.*]", "'layr1.\\*'"), ("['*']", "nothing is left to prune")]
)
def test_patterns_that_protect_nothing_or_everything_are_named(patterns, message, tmp_path):
    with pytest.raises(SparsifyError, match=message):
        train(tiny_recipe(f"model.ignore={patterns}"), tmp_path / "run")


class Dropping(torch.nn.Module):
    """A network whose training depends on the global random generator."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(80, 16)

    def forward(self, feats):
        return torch.nn.functional.dropout(self.linear(feats).mean(1), 0.5, self.training)


def test_random_state_is_resumed(tmp_path, monkeypatch, stop_at):
    module = types.ModuleType("dropping")
    module.Net = Dropping
    monkeypatch.setitem(sys.modules, "dropping", module)
    recipe = tiny_recipe("model.options={}", **{"model.name": "dropping:Net"})
    train(recipe, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "resumed", observer=stop_at(7))
    train(recipe, tmp_path / "resumed", resume=True)
    states = [load_artifact(tmp_path / name).arrays for name in ("straight", "resumed")]
    assert source_digest(states[0]) == source_digest(states[1])
