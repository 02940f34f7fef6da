"""Code that a file names as its network runs only where the user says so; the user's own does."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from sparsify import build_model, save_model
from sparsify.cli.main import main
from sparsify.comparison.cells import grid
from sparsify.comparison.commands import missing_commands
from sparsify.comparison.plan import Plan, shared_recipe
from sparsify.comparison.test_sets import TestSet
from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import load_recipe

NAME = "named_network:pooled"
CODE = """
from torch import nn

class Pooled(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv1d(80, width, 3)

    def forward(self, feats):
        return self.conv(feats.transpose(1, 2)).mean(2)

def pooled(width=8):
    return Pooled(width)
"""
SETTINGS = {
    "data.synthetic_speakers": 5,
    "data.synthetic_utterances": 2,
    "data.validation_speakers": 2,
    "data.crop_seconds": 0.4,
    "training.steps": 3,
    "training.batch_size": 4,
    "training.workers": 0,
    "training.log_every": 1,
}
SETS = [f"--set={key}={value}" for key, value in SETTINGS.items()]


def run(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def importable(tmp_path, monkeypatch):
    (tmp_path / "named_network.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a network that the user named, and some speech."""
    folder = tmp_path_factory.mktemp("trust")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "named_network.py").write_text(CODE)
        patch.syspath_prepend(folder)
        result = run("train", "--model", NAME, *SETS, "--output", folder / "run")
    assert result.exit_code == 0, result.output
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 16000))
    for name, samples in zip("ab", noise, strict=True):
        soundfile.write(folder / f"{name}.wav", samples, 16000)
    (folder / "trials.txt").write_text("1 a.wav a.wav\n0 a.wav b.wav\n")
    return folder


def calls(folder, output):
    """A call of every command that builds the network of a file."""
    speech = (folder / "a.wav", folder / "b.wav")
    trials = ("--trials", folder / "trials.txt", "--audio-root", folder)
    return {
        "export": ("export", "--format", "onnx", "--output", output / "m.onnx"),
        "evaluate": ("evaluate", *trials),
        "embed": ("embed", speech[0], "--output", output / "m.npz"),
        "verify": ("verify", *speech),
        "sensitivity": ("inspect", "--sensitivity", *trials),
    }


@pytest.mark.parametrize("name", ["export", "evaluate", "embed", "verify", "sensitivity"])
def test_commands_that_build_a_network_ask_for_trust(folder, importable, refused, tmp_path, name):
    command, *options = calls(folder, tmp_path)[name]
    call = (command, folder / "run", *options)
    refused(run(*call), NAME, folder / "run", "--trust")
    result = run(*call, "--trust")
    assert result.exit_code == 0, result.output


def test_reading_weights_takes_no_trust(folder):
    """Nor is the module there to import."""
    assert run("inspect", folder / "run", "--min-sparsity", 0.5).exit_code == 0
    result = run("report", folder / "run", "--output", folder / "report.html")
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("importable")
def test_multiply_adds_of_code_are_counted_where_it_is_trusted(folder):
    counted = [run("inspect", folder / "run", "--json", *trust) for trust in ((), ("--trust",))]
    known = [json.loads(each.stdout)["multiply_adds"] for each in counted]
    assert known == [None, pytest.approx(200 * 8 * 80 * 3, rel=0.02)]


@pytest.mark.usefixtures("importable")
def test_trust_is_for_both_models_of_a_comparison(folder, tmp_path):
    save_model(build_model(NAME, width=16), tmp_path / "wide.safetensors")
    call = ("inspect", folder / "run", "--compare", tmp_path / "wide.safetensors", "--json")
    sizes = json.loads(run(*call, "--trust").stdout)["compare"]["sizes"]
    assert sizes["other_multiply_adds"] == 2 * sizes["multiply_adds"] > 0


def test_training_on_from_such_a_file_asks_for_trust(folder, importable, refused, tmp_path):
    call = (
        "train",
        "--init-from",
        folder / "run",
        *SETS,
        "--output",
        tmp_path / "run",
        "--dry-run",
    )
    refused(run(*call), NAME, "--trust")
    assert run(*call, "--trust").exit_code == 0
    assert run(*call, "--model", NAME).exit_code == 0


def test_a_teacher_that_is_code_asks_for_trust(folder, importable, refused, tmp_path):
    teacher = (f"--set=distillation.teacher={folder / 'run'}", "--set=distillation.weight=1")
    student = ("--model", NAME, *SETS, "--output", tmp_path / "run")
    refused(run("train", *student, *teacher), NAME, "--trust")
    refused(run("compare", *student, *teacher), NAME, "--trust")
    result = run("train", *student, *teacher, "--trust")
    assert result.exit_code == 0, result.output


def test_resuming_a_run_that_names_code_asks_for_trust(folder, importable, refused, tmp_path):
    copy = shutil.copytree(folder / "run", tmp_path / "run")
    (copy / "summary.json").unlink()
    refused(run("train", "--resume", "--output", copy), NAME, "--trust")
    assert run("train", "--resume", "--output", copy, "--model", NAME, *SETS).exit_code == 0
    (copy / "summary.json").unlink()
    assert run("train", "--resume", "--output", copy, "--trust").exit_code == 0


def test_going_on_with_a_comparison_that_names_code_asks_for_trust(refused, tmp_path):
    recipe = shared_recipe(load_recipe("quickstart", [f"model.name={NAME}"]))
    plan = Plan(recipe=recipe, runs=tuple(grid(["dense"], [0.9], [0])), tests=())
    plan.write(tmp_path)
    refused(run("compare", "--output", tmp_path), NAME, "comparison.yaml", "--trust")
    (tmp_path / "logs").mkdir()
    (training,) = missing_commands(plan, plan.runs[0], tmp_path, "cpu")
    assert "--trust" in training.arguments


def test_a_run_of_another_network_than_the_comparison_is_not_trusted(folder, tmp_path):
    test = TestSet(name="a", trials=str(folder / "trials.txt"), audio_root=str(folder))
    for name, message in ((NAME, None), ("other:network", "other:network")):
        recipe = shared_recipe(load_recipe("quickstart", [f"model.name={name}"]))
        plan = Plan(recipe=recipe, runs=tuple(grid(["dense"], [0.9], [0])), tests=(test,))
        output = tmp_path / name
        shutil.copytree(folder / "run", output / "runs" / plan.runs[0].name)
        commands = missing_commands(plan, plan.runs[0], output, "cpu")
        if message is None:
            assert "--trust" in next(commands).arguments
        else:
            with pytest.raises(SparsifyError, match=message):
                next(commands)
