"""`sparsify data prepare` as a user runs it, and training on what it wrote."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from sparsify.cli.main import main

TRAINING = {
    "model.options": "{channels: 16, aggregation_channels: 32, embedding_dim: 16}",
    "data.validation_speakers": 2,
    "data.crop_seconds": 0.4,
    "training.steps": 2,
    "training.batch_size": 4,
    "training.workers": 0,
    "training.compile": "false",
}


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def speech(tmp_path):
    """Four speakers of three files, the last of another rate; three are not usable."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "speech"
    for number in range(12):
        path = folder / f"s{number // 3}" / f"{number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = 8000 if number == 11 else 16000
        sf.write(path, rng.normal(0, 0.1, rate * (1 + number // 6)), rate)
    sf.write(folder / "s0" / "short.wav", np.zeros(100), 16000)
    (folder / "s0" / "text.wav").write_text("about")
    cut = folder / "s1" / "cut.flac"
    cut.write_bytes((folder / "s1" / "3.flac").read_bytes()[:9000])
    return folder


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_prepare_reports_and_train_accepts(tmp_path, speech, suffix):
    manifest = tmp_path / f"list{suffix}"
    result = invoke("data", "prepare", speech, "--output", manifest, "--verify", "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    percentiles = summary.pop("seconds")
    assert (percentiles["p0"], percentiles["p100"]) == (1, 2)
    reasons = summary.pop("reasons")
    assert summary == {
        "path": str(speech),
        "output": str(manifest),
        "layout": "folder",
        "speakers": 4,
        "utterances": 12,
        "hours": 18 / 3600,
        "skipped": 3,
        "sample_rates": {"8000": 1, "16000": 11},
        "skipped_report": f"{manifest}.skipped",
        "verified": True,
    }
    report = (tmp_path / f"list{suffix}.skipped").read_text("utf-8").splitlines()
    lines = dict(line.split("\t") for line in report)
    assert {path.rsplit("/", 1)[1] for path in lines} == {"cut.flac", "short.wav", "text.wav"}
    assert sorted(lines.values()) == sorted(reasons)
    assert result.stderr.count("Skipped ") == 3
    assert "digital silence" not in result.stderr  # of what is left out anyway
    sets = [f"--set={key}={value}" for key, value in TRAINING.items()]
    trained = invoke("train", "--data", manifest, "--output", tmp_path / "run", "--json", *sets)
    assert trained.exit_code == 0, trained.output
    folder = [f"--data={speech}", f"--output={tmp_path / 'same'}", "--json"]
    same = invoke("train", *folder, *sets)
    assert json.loads(trained.stdout)["eer_percent"] == json.loads(same.stdout)["eer_percent"]
    first, second = (load_file(tmp_path / run / "model.safetensors") for run in ("run", "same"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_headers_do_not_tell_what_decoding_does(tmp_path, speech):
    output = tmp_path / "list.csv"
    result = invoke("data", "prepare", speech, "--output", output)
    assert result.exit_code == 0, result.output
    assert "cut.flac" in output.read_text("utf-8")
    table = {line.split("  ")[0]: line.split()[-1] for line in result.stdout.splitlines()}
    assert (table["speakers"], table["utterances"], table["skipped"]) == ("4", "13", "2")
    assert "Saved to" in result.stdout


def test_an_intact_corpus_leaves_no_report(tmp_path, speech):
    output = tmp_path / "list.csv"
    invoke("data", "prepare", speech, "--output", output, "--verify")
    for name in ("s0/short.wav", "s0/text.wav", "s1/cut.flac"):
        (speech / name).unlink()
    result = invoke("data", "prepare", speech, "--output", output, "--strict", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["skipped_report"] is None
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["list.csv"]


def test_strict_writes_nothing(tmp_path, speech):
    result = invoke("data", "prepare", speech, "--output", tmp_path / "list.csv", "--strict")
    assert result.exit_code == 2
    assert "short.wav: shorter than 0.3 s" in result.stderr
    assert not (tmp_path / "list.csv").exists()


@pytest.mark.parametrize(
    ("path", "output", "problem"),
    [
        ("nowhere", "list.csv", "no such file or folder: "),
        ("speech", "list.txt", "must end in .jsonl or .csv"),
        ("speech", "no/list.csv", "create the folder"),
        ("own.csv", "own.csv", "it is what is read"),
    ],
)
def test_mistakes_exit_with_2(tmp_path, speech, path, output, problem):
    (tmp_path / "own.csv").write_text("speaker,path\na,b.wav\n")
    result = invoke("data", "prepare", tmp_path / path, "--output", tmp_path / output)
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_manifest_says_who_speaks(tmp_path, speech):
    call = ("data", "prepare", speech, "--layout", "unlabelled", "--output", tmp_path / "list.csv")
    result = invoke(*call)
    assert result.exit_code == 2
    assert "nobody knows of unlabelled speech" in result.stderr
