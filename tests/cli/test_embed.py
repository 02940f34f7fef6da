"""`sparsify embed`: what is embedded, under which key, and what happens to broken files."""

import json

import kaldiio
import numpy as np
import pytest
import soundfile as sf
import torch
from click.testing import CliRunner

from sparsify.artifact import load_model
from sparsify.cli.main import main
from sparsify.recipe_sections import FrontEnd
from sparsify.speech.audio import read_audio
from sparsify.speech.features import Filterbank
from sparsify.speech.synthetic import write_synthetic


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    root = tmp_path_factory.mktemp("embed")
    write_synthetic(root / "speech", 2, 2, seed=1)
    return root


def run(model, *arguments):
    command = ["embed", model, *arguments, "--threads", 1, "-q"]
    return CliRunner().invoke(main, [str(argument) for argument in command])


def expected(artifacts, path):
    features = Filterbank(FrontEnd()).features(read_audio(path, 16000))
    with torch.inference_mode():
        return load_model(artifacts["dense"])(torch.from_numpy(features)[None])[0].numpy()


@pytest.mark.parametrize("model", ["run", "onnx"])
def test_a_folder_into_npz(artifacts, speech, tmp_path, model):
    output = tmp_path / "x.npz"
    result = run(artifacts[model], speech / "speech", "--output", output, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert list(found) == ["path", "output", "utterances", "dimensions", "skipped", "seconds"]
    assert (found["output"], found["utterances"], found["skipped"]) == ([str(output)], 4, [])
    with np.load(output) as content:
        keys, rows = content["keys"].tolist(), content["embeddings"]
    files = sorted((speech / "speech").rglob("*.*"))
    assert keys == [file.relative_to(speech / "speech").as_posix() for file in files]
    for file, row in zip(files, rows, strict=True):
        np.testing.assert_allclose(row, expected(artifacts, file), atol=1e-4, rtol=1e-4)


def test_a_list_into_ark(artifacts, speech, tmp_path):
    files = sorted((speech / "speech").rglob("*.*"))
    (tmp_path / "wav.scp").write_text(f"second {files[1]}\n\nfirst {files[0]}\n{files[2]}\n")
    result = run(artifacts["run"], "--list", tmp_path / "wav.scp", "--output", tmp_path / "x.ark")
    assert result.exit_code == 0, result.stderr
    vectors = kaldiio.load_scp(str(tmp_path / "x.scp"))
    assert list(vectors) == ["second", "first", str(files[2])]
    row = expected(artifacts, files[0])
    np.testing.assert_allclose(vectors["first"], row, atol=1e-5, rtol=1e-5)


def test_broken_files_are_left_out_and_named(artifacts, speech, tmp_path):
    file = min((speech / "speech").rglob("*.*"))
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    sf.write(tmp_path / "short.wav", np.zeros(10), 16000)
    inputs = (tmp_path / "broken.wav", file, tmp_path / "short.wav")
    output = tmp_path / "x.jsonl"
    result = run(artifacts["run"], *inputs, "--output", output, "--json")
    assert result.exit_code == 1
    skipped = json.loads(result.stdout)["skipped"]
    assert [each["key"] for each in skipped] == [str(inputs[0]), str(inputs[2])]
    assert "short.wav" in result.stderr
    assert "2 of 3 files could not be embedded" in result.stderr
    assert [json.loads(line)["key"] for line in output.read_text().splitlines()] == [str(file)]
    accepted = run(artifacts["run"], *inputs, "--output", output, "--skip-broken")
    assert accepted.exit_code == 0
    assert "1 embeddings of 24 dimensions" in accepted.stdout


def test_bad_input_is_one_sentence_and_code_2(artifacts, speech, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pipe.scp").write_text("x sph2pipe -f wav x.sph |\n")
    (tmp_path / "twice.scp").write_text("x a.wav\nx b.wav\n")
    output = ("--output", tmp_path / "x.npz")
    for arguments, sentence in (
        (output, "nothing to embed"),
        ((tmp_path / "empty", *output), "no audio under"),
        (("--list", tmp_path / "absent", *output), "no list"),
        (("--list", tmp_path / "pipe.scp", *output), "pipe.scp:1: commands are not run"),
        (("--list", tmp_path / "twice.scp", *output), "the same key 'x'"),
        ((speech / "speech", "--output", tmp_path / "x.csv"), "must end in .npz"),
        ((tmp_path / "pipe.scp", *output), "none of the 1 files"),
    ):
        result = run(artifacts["run"], *arguments)
        assert result.exit_code == 2, sentence
        assert sentence in result.stderr
        assert not (tmp_path / "x.npz").exists()
