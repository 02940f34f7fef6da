"""From real speech to exported files with the same error rates, where the evaluation set is."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sparsify.cli.main import main
from sparsify.corpus.layouts import load_corpus
from sparsify.verification.trials import read_trials

SETTINGS = {
    "model.options": "{channels: 16, aggregation_channels: 48, embedding_dim: 32}",
    "training.steps": 180,
    "training.batch_size": 16,
    "training.workers": 0,
    "training.compile": "false",
    "data.crop_seconds": 0.8,
    "data.validation_speakers": 6,
    "augment.speeds": "[1.0]",  # no virtual speakers: there is no time to learn them
}


def sparsify(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_set_is_complete(speech_mini):
    corpus = load_corpus(speech_mini / "train", strict=True)
    assert len(corpus.speakers) == 84
    assert len(corpus.utterances) == 1298
    assert corpus.seconds / 3600 == pytest.approx(1.55, abs=0.01)
    trials = read_trials(speech_mini / "trials.txt")
    assert len(trials) == 1452 + 8712
    assert int(trials.targets.sum()) == 1452


def test_train_inspect_export_evaluate(speech_mini, tmp_path):
    run, data = tmp_path / "run", tmp_path / "train"
    data.mkdir()
    for speaker in sorted((speech_mini / "train").iterdir())[:30]:
        (data / speaker.name).symlink_to(speaker)
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    summary = sparsify("train", "--data", data, "--output", run, *settings)
    assert abs(summary["sparsity"] - 0.9) < 0.001
    sparsify("inspect", run, "--min-sparsity", 0.9, "--max-sparsity", 0.9)
    packed, graph = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    sparsify("export", run, "--format=safetensors", "--layout=bitmask", "--output", packed)
    sparsify("export", run, "--format=onnx", "--output", graph)

    # The trials among some of the speakers keep the test short.
    lines = (speech_mini / "trials.txt").read_text().splitlines()
    among = {folder.name for folder in sorted((speech_mini / "test").iterdir())[:10]}
    chosen = [line for line in lines if {Path(name).parts[0] for name in line.split()[1:]} <= among]
    (tmp_path / "trials.txt").write_text("\n".join(chosen))
    found = {}
    for condition in ("test", "test_noisy"):
        results = [
            sparsify(
                *("evaluate", path, "--trials", tmp_path / "trials.txt"),
                *("--audio-root", speech_mini / condition),
            )
            for path in (run, packed, graph)
        ]
        rates = [result["eer_percent"] for result in results]
        found[condition] = rates[0]
        assert rates[1] == rates[0]
        assert rates[2] == pytest.approx(rates[0], abs=0.05)
    # So short a training says something about clean speech only.
    assert found["test"] < 40
