"""Models that were not made here, through the commands, as users of their toolkits would."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from sparsify import load_model, save_model
from sparsify.artifact.loading import load_artifact
from sparsify.cli.main import main
from sparsify.recipe.recipe import load_recipe
from sparsify.recipe.sections import FrontEnd
from sparsify.sparsity.prunable import prunable_parameters

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
TINY = {
    "data.synthetic_speakers": 6,
    "data.synthetic_utterances": 3,
    "data.validation_speakers": 2,
    "data.crop_seconds": 0.4,
    "training.steps": 4,
    "training.batch_size": 8,
    "training.workers": 0,
    "training.batch_norm_batches": 2,
}


def run(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


def train(*arguments):
    sets = [f"--set={key}={value}" for key, value in TINY.items()]
    return run("train", *arguments, *sets, "--json")


@pytest.fixture
def models(own_golden, tmp_path):
    """A SpeechBrain and a WeSpeaker folder."""
    folders = {name: tmp_path / name for name in ("speechbrain", "wespeaker")}
    for folder, file, source in (
        (folders["speechbrain"], "embedding_model.ckpt", "speechbrain_ecapa_tdnn_c16"),
        (folders["wespeaker"], "avg_model.pt", "wespeaker_resnet50_m4"),
    ):
        folder.mkdir()
        tensors = load_file(own_golden / f"{source}.safetensors")
        prefix = "state_dict."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        torch.save(state, folder / file)
    config = {"model": "ResNet50", "model_args": {"feat_dim": 24, "embed_dim": 16}}
    (folders["wespeaker"] / "config.yaml").write_text(yaml.safe_dump(config))
    return folders


@pytest.mark.parametrize(
    ("toolkit", "front_end"),
    [
        ("speechbrain", FrontEnd(preset="speechbrain")),
        ("wespeaker", FrontEnd(preset="wespeaker", num_mel_bins=24)),
    ],
)
def test_from_a_folder_to_a_sparse_artifact(models, toolkit, front_end, tmp_path):
    source = models[toolkit]
    inspected = json.loads(run("inspect", source, "--json").stdout)
    parameters = sum(p.numel() for p in load_model(source).parameters())
    assert (inspected["parameters"], inspected["sparsity"]) == (parameters, 0)

    copy = tmp_path / "copy.safetensors"
    result = run("export", source, "--format", "safetensors", "--output", copy)
    assert result.exit_code == 0, result.output
    assert load_artifact(copy).front_end == front_end

    result = train("--init-from", source, "--target-sparsity", 0.5, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sparsity"] == pytest.approx(0.5, abs=0.001)
    artifact = load_artifact(tmp_path / "run")
    assert artifact.front_end == front_end
    assert artifact.architecture.options == load_artifact(source).architecture.options


def test_a_model_named_again_keeps_the_options_of_the_file(models, tmp_path):
    arguments = ("--init-from", models["wespeaker"], "--dry-run")
    given = json.loads(train(*arguments, "--model", "resnet50").stdout)["recipe"]
    assert given == json.loads(train(*arguments).stdout)["recipe"]
    assert given["model"]["options"]["channels"] == 4


def test_another_model_than_that_of_the_file_is_an_error(models, tmp_path):
    arguments = ("--init-from", models["wespeaker"], "--model", "resnet18")
    result = train(*arguments, "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert "(it holds 'resnet50') does not fit the architecture 'resnet18'" in result.stderr


def test_a_bare_state_dict_needs_its_model(models, tmp_path):
    bare = shutil.copy(models["wespeaker"] / "avg_model.pt", tmp_path / "bare.pt")
    options = "model.options={channels: 4, feature_dim: 24, embedding_dim: 16}"
    arguments = ("--init-from", bare, "--model", "resnet50", "--set", options)
    front_end = ("--set", "front_end={preset: wespeaker, num_mel_bins: 24}")
    result = train(*arguments, *front_end, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output


def test_training_goes_on_from_a_sparse_artifact(models, tmp_path):
    """80 % sparse in the bitmask layout, to 90 %: no zero is lost on the way in."""
    model = load_model(models["speechbrain"])
    with torch.no_grad():
        for weight in prunable_parameters(model).values():
            weight[torch.rand(weight.shape) < 0.8] = 0
    recipe = load_recipe("quickstart", changes={"front_end.preset": "speechbrain"})
    save_model(model, tmp_path / "sparse.safetensors", recipe, layout="bitmask")
    arguments = ("--init-from", tmp_path / "sparse.safetensors", "--target-sparsity", 0.9)
    result = train(*arguments, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    trained = prunable_parameters(load_model(tmp_path / "run"))
    for name, weight in prunable_parameters(model).items():
        assert not trained[name][weight == 0].any()


def test_the_network_of_the_docs(tmp_path, monkeypatch):
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S) if "XVec" in c)
    (tmp_path / "own_network.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ("--model", "own_network:XVector", "--set", "model.options={channels: 48}")
    result = train(*arguments, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "run", trust=True)
    assert model.embedding.in_features == 48
