"""What docs/ci.md tells to do works, from training to an artifact that passed its gates."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.cli.main import main
from sparsify.corpus.synthetic import write_synthetic
from sparsify.models.registry import build_model
from sparsify.verification.trials import make_trials, write_trials

TEXT = (Path(__file__).parents[1] / "docs" / "ci.md").read_text("utf-8")
(SCRIPT,) = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
(WORKFLOW,) = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
OPTIONS = {"channels": 16, "aggregation_channels": 32, "embedding_dim": 16}
RECIPE = {
    "model": {"options": OPTIONS},
    "data": {"crop_seconds": 0.4, "validation_speakers": 2},
    "training": {"steps": 8, "batch_size": 8, "validate_every": 8, "workers": 0},
}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Speech, a recipe, trials and a baseline, by the names that the page gives them."""
    monkeypatch.chdir(tmp_path)
    write_synthetic(tmp_path / "speech", 6, 3, seed=1)
    corpus = write_synthetic(tmp_path / "test", 4, 3, seed=2)
    keys = [utterance.key for utterance in corpus.utterances]
    trials = make_trials(keys, [utterance.speaker for utterance in corpus.utterances], seed=0)
    write_trials(trials, tmp_path / "trials.txt")
    Path("recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    save_model(build_model("ecapa-tdnn", **OPTIONS), tmp_path / "dense.safetensors")
    own = {"SPEECH": "speech", "TRIALS": "trials.txt", "AUDIO": "test"}
    own |= {"RECIPE": "recipe.yaml", "BASELINE": "dense.safetensors"}
    assert own.keys() <= WORKFLOW["env"].keys()
    own = {name: str(value) for name, value in (WORKFLOW["env"] | own).items()}
    return own | {"MAX_EER_LOSS": "50"}


def commands(script, variables):
    """The calls of sparsify in a script, as a shell expands them."""
    function = 'sparsify() { printf "%s\\0" "$@"; echo; }\n'
    shell = ["bash", "-c", function + script]
    said = subprocess.run(shell, env=variables, check=True, capture_output=True, text=True).stdout
    return [line.split("\0")[:-1] for line in said.splitlines()]


def test_the_workflow_is_the_script(settings):
    steps = WORKFLOW["jobs"]["model"]["steps"]
    runs = [step["run"] for step in steps if step.get("run", "").startswith("sparsify")]
    assert commands("\n".join(runs), settings) == commands(SCRIPT, settings)


def test_from_training_to_a_gated_artifact(settings):
    for command in commands(SCRIPT, settings):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        if command[0] == "inspect":
            assert result.stdout.startswith("Passed: the prunable sparsity 9")
            assert len(result.stdout.splitlines()) == 1
    assert (
        Path("summary.md").read_text().startswith("**`model.onnx`**, against `dense.safetensors`")
    )
    assert load_artifact("model.onnx").architecture.name == "ecapa-tdnn"
    Path("summary.md").unlink()
    refused = CliRunner().invoke(main, [*command, "--max-eer-loss", "-100"])
    assert refused.exit_code == 1
    assert "Failed: the loss in EER of " in refused.stderr
    assert "above --max-eer-loss" in refused.stderr
    assert Path("summary.md").exists()
