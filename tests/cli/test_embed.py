"""`sparsify embed`: what is embedded, under which key, and what happens to broken files."""

import csv
import io
import json
import tarfile

import kaldiio
import numpy as np
import pytest
import soundfile as sf
import torch
from click.testing import CliRunner

from sparsify.artifact.loading import load_model
from sparsify.audio.decode import read_audio
from sparsify.audio.features import Filterbank
from sparsify.cli.main import main
from sparsify.corpus.synthetic import write_synthetic
from sparsify.recipe.sections import FrontEnd


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    root = tmp_path_factory.mktemp("embed")
    write_synthetic(root / "speech", 2, 2, seed=1)
    return root


def run(model, *arguments):
    command = ["embed", model, *arguments, "--threads", 1, "-q"]
    return CliRunner().invoke(main, [str(argument) for argument in command])


def expected(artifacts, path):
    return embedding_of(artifacts, read_audio(path, 16000))


def embedding_of(artifacts, samples):
    features = Filterbank(FrontEnd()).features(samples)
    with torch.inference_mode():
        return load_model(artifacts["dense"])(torch.from_numpy(features)[None])[0].numpy()


def test_paths_of_a_list_start_at_its_folder(artifacts, speech, tmp_path):
    file = sorted((speech / "speech").rglob("*.*"))[0]
    (speech / "own.scp").write_text(f"one {file.relative_to(speech)}\n")
    output = tmp_path / "x.jsonl"
    result = run(artifacts["run"], "--list", speech / "own.scp", "--output", output)
    assert result.exit_code == 0, result.stderr
    assert json.loads(output.read_text())["key"] == "one"


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
    (tmp_path / "wav.scp").write_text(f"second {files[1]}\n\nfirst\t{files[0]}\n{files[2]}\n")
    result = run(artifacts["run"], "--list", tmp_path / "wav.scp", "--output", tmp_path / "x.ark")
    assert result.exit_code == 0, result.stderr
    vectors = kaldiio.load_scp(str(tmp_path / "x.scp"))
    assert list(vectors) == ["second", "first", str(files[2])]
    row = expected(artifacts, files[0])
    np.testing.assert_allclose(vectors["first"], row, atol=1e-5, rtol=1e-5)


def kaldi(folder, calls):
    """One recording in two segments, spoken by two."""
    (folder / "wav.scp").write_text("".join(f"call-{k} {file}\n" for k, file in enumerate(calls)))
    (folder / "segments").write_text("u1 call-0 0.25 0.75\nu2 call-0 0.75 -1\nu3 call-1 0 0.5\n")
    (folder / "utt2spk").write_text("u1 anna\nu2 bert\nu3 bert\n")
    return folder


def csv_manifest(folder, calls):
    with (folder / "list.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["key", "speaker", "path", "start", "end"])
        writer.writerow(["u1", "anna", calls[0], 0.25, 0.75])
        writer.writerow(["u2", "bert", calls[0], 0.75, ""])
        writer.writerow(["u3", "bert", calls[1], 0, 0.5])
    return folder / "list.csv"


def json_manifest(folder, calls):
    rows = [
        {"key": "u1", "spk": "anna", "wav": str(calls[0]), "start": 0.25, "duration": 0.5},
        {"key": "u2", "spk": "bert", "wav": str(calls[0]), "start": 0.75, "seconds": 1.25},
        {"key": "u3", "spk": "bert", "wav": str(calls[1]), "end": 0.5},
    ]
    (folder / "raw.list").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "raw.list"


def shards(folder, calls):
    stretches = [sf.read(calls[0], start=4000, frames=8000), sf.read(calls[0], start=12000)]
    stretches.append(sf.read(calls[1], frames=8000))
    with tarfile.open(folder / "0.tar", "w") as tar:
        for number, (samples, rate) in enumerate(stretches, 1):
            audio = io.BytesIO()
            sf.write(audio, samples, rate, format="WAV", subtype="FLOAT")
            speaker = b"anna" if number == 1 else b"bert"
            for suffix, content in (("spk", speaker), ("wav", audio.getvalue())):
                member = tarfile.TarInfo(f"u{number}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    (folder / "shard.list").write_text("0.tar\n")
    return folder / "shard.list"


@pytest.fixture
def calls(tmp_path):
    rng = np.random.default_rng(5)
    files = [tmp_path / "call-0.wav", tmp_path / "call-1.wav"]
    for file in files:
        sf.write(file, 0.1 * rng.standard_normal(32000), 16000)
    return files


@pytest.mark.parametrize("lay_out", [kaldi, csv_manifest, json_manifest, shards])
def test_every_utterance_that_training_reads(artifacts, calls, tmp_path, lay_out):
    output = tmp_path / "x.npz"
    result = run(artifacts["run"], lay_out(tmp_path, calls), "--output", output)
    assert result.exit_code == 0, result.stderr
    with np.load(output) as content:
        keys, speakers, rows = (content[name] for name in ("keys", "speakers", "embeddings"))
    assert keys.tolist() == ["u1", "u2", "u3"]
    assert speakers.tolist() == ["anna", "bert", "bert"]
    first, second = (sf.read(file, dtype="float32")[0] for file in calls)
    for row, samples in zip(rows, (first[4000:12000], first[12000:], second[:8000]), strict=True):
        wanted = embedding_of(artifacts, samples)
        np.testing.assert_allclose(row, wanted, atol=1e-5, rtol=1e-5)


def test_a_corpus_with_broken_utterances(artifacts, calls, tmp_path):
    folder = kaldi(tmp_path, calls)
    with (folder / "utt2spk").open("a") as stream:
        stream.write("u9 carl\n")
    calls[1].write_bytes(b"RIFF")
    result = run(artifacts["run"], folder, "--output", tmp_path / "x.npz", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["utterances"] == 2
    assert [each["key"] for each in found["skipped"]] == [str(folder / "u9"), "u3"]
    assert "no recording" in found["skipped"][0]["reason"]
    assert str(calls[1]) in found["skipped"][1]["reason"]
    assert "2 of 4 utterances could not be embedded" in result.stderr


def test_audio_lies_at_any_depth_of_a_folder(artifacts, calls, tmp_path):
    (tmp_path / "anna" / "cd").mkdir(parents=True)
    calls[1].rename(tmp_path / "anna" / "cd" / "1.wav")
    output = tmp_path / "out" / "x.npz"
    output.parent.mkdir()
    assert run(artifacts["run"], tmp_path, "--output", output).exit_code == 0
    with np.load(output) as content:
        assert content["keys"].tolist() == ["anna/cd/1.wav", "call-0.wav"]
        assert content["speakers"].tolist() == ["anna", ""]


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
    assert "2 of 3 utterances could not be embedded" in result.stderr
    assert [json.loads(line)["key"] for line in output.read_text().splitlines()] == [str(file)]
    accepted = run(artifacts["run"], *inputs, "--output", output, "--skip-broken")
    assert accepted.exit_code == 0
    assert "1 embedding of 24 dimensions" in accepted.stdout


def test_bad_input_is_one_sentence_and_code_2(artifacts, speech, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pipe.scp").write_text("x sph2pipe -f wav x.sph |\n")
    (tmp_path / "twice.scp").write_text("x a.wav\nx b.wav\n")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "away.csv").write_text("speaker,path,seconds\nx,away.wav,2\n")
    (tmp_path / "blank.txt").write_text("\n")
    sf.write(tmp_path / "a.wav", np.full(16000, 0.1), 16000)
    for speaker in ("ann", "bob"):
        line = {"key": "x", "speaker": speaker, "path": "a.wav", "seconds": 1.0}
        (tmp_path / f"{speaker}.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "spaced" / "one two").mkdir(parents=True)
    sf.write(tmp_path / "spaced" / "one two" / "a.wav", np.full(16000, 0.1), 16000)
    output = ("--output", tmp_path / "x.npz")
    for arguments, sentence in (
        ((tmp_path / "spaced", "--output", tmp_path / "x.ark"), "cannot hold the key 'one two/a"),
        (("--list", tmp_path / "twice.scp", "--output", tmp_path / "twice.ark"), "what is read"),
        (output, "nothing to embed"),
        ((tmp_path / "empty", *output), "no audio under"),
        (("--list", tmp_path / "absent", *output), "no list"),
        (("--list", tmp_path / "pipe.scp", *output), "pipe.scp:1: commands are not run"),
        (("--list", tmp_path / "twice.scp", *output), "the same key 'x'"),
        ((speech / "speech", "--output", tmp_path / "x.csv"), "must end in .npz"),
        ((tmp_path / "pipe.scp", *output), "pipe.scp is no manifest"),
        ((tmp_path / "pipe.scp", *output), "a list of audio files goes to --list"),
        (("--list", tmp_path / "blank.txt", *output), "blank.txt' is empty"),
        ((tmp_path / "ann.jsonl", tmp_path / "bob.jsonl", *output), "of speaker 'ann' in one"),
        ((tmp_path / "broken.wav", *output), "none of the 1 utterances"),
        ((tmp_path / "away.csv", *output), "none of the files in"),
    ):
        result = run(artifacts["run"], *arguments)
        assert result.exit_code == 2, sentence
        assert sentence in result.stderr
        assert not (tmp_path / "x.npz").exists()
