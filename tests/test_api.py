"""The commands as functions do what the commands do."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import sparsify
from sparsify.cli.main import main
from sparsify.corpus.synthetic import write_synthetic
from sparsify.optim import AdaBreg
from sparsify.verification.embedding_tables import read_table
from sparsify.verification.trials import make_trials, write_trials

SETTINGS = {
    "model.options": {"channels": 16, "aggregation_channels": 32, "embedding_dim": 16},
    "data.crop_seconds": 0.4,
    "data.validation_speakers": 2,
    "training.steps": 8,
    "training.batch_size": 8,
    "training.workers": 0,
    "training.precision": "fp32",
    "methods.adabreg.lr": 1e-3,
}


def command(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_functions_do_what_the_commands_do(tmp_path):
    data, test = tmp_path / "train", tmp_path / "test"
    write_synthetic(data, 6, 3, seed=1)
    corpus = write_synthetic(test, 4, 3, seed=2)
    names = [(utterance.key, utterance.speaker) for utterance in corpus.utterances]
    write_trials(make_trials(*zip(*names, strict=True), seed=0), tmp_path / "trials.txt")
    common = {"recipe": "quickstart", "data": data, "target_sparsity": 0.8, "seed": 3}

    trained = sparsify.train(tmp_path / "run", **common, settings=SETTINGS)
    options = [f"--{key.replace('_', '-')}={value}" for key, value in common.items()]
    options += [f"--set={key}={json.dumps(value)}" for key, value in SETTINGS.items()]
    told = command("train", "--output", tmp_path / "command", *options)
    assert trained.eer_percent == told["eer_percent"]
    one, other = (tmp_path / run / "model.safetensors" for run in ("run", "command"))
    assert one.read_bytes() == other.read_bytes()
    assert trained.sparsity == pytest.approx(0.8, abs=1e-4)
    assert (trained.path / "report.html").is_file()

    file = tmp_path / "model.safetensors"
    report = sparsify.export(trained.path, file, layout="bitmask")
    inspected = command("inspect", file)
    assert report.sparsity == inspected["sparsity"]

    where = (tmp_path / "trials.txt", test)
    outcome = sparsify.evaluate(file, *where)
    told = command("evaluate", file, "--trials", where[0], "--audio-root", where[1])
    assert outcome.result.eer_percent == told["eer_percent"]
    assert outcome.intervals.percent == 95

    table = sparsify.embed(file, test)
    command("embed", file, test, "--output", tmp_path / "embeddings.npz")
    written = read_table(tmp_path / "embeddings.npz")
    np.testing.assert_array_equal(table.embeddings, written.embeddings)
    assert set(table.speakers) == {speaker for _, speaker in names}

    with pytest.raises(sparsify.SparsifyError, match="exists"):
        sparsify.export(trained.path, file)
    assert AdaBreg is sparsify.AdaBreg
