"""`sparsify evaluate`: the same numbers from every format, its JSON, its gate and its errors."""

import json

import numpy as np
import onnx
import pytest
import soundfile as sf
import torch
import torchaudio
from click.testing import CliRunner
from scipy.optimize import brentq
from sklearn.metrics import roc_curve
from torch import nn

import sparsify
from sparsify.artifact import load_artifact, save_model
from sparsify.cli.main import main
from sparsify.exporters.onnx import export_onnx
from sparsify.speech.synthetic import write_synthetic
from sparsify.verification.trials import make_trials, write_trials

KEYS = [
    "path",
    "eer_percent",
    "min_dcf",
    "p_target",
    "trials",
    "targets",
    "nontargets",
    "utterances",
    "seconds",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four voices, a trial list, and one half-sparse random network in three formats."""
    root = tmp_path_factory.mktemp("evaluate")
    corpus = write_synthetic(root / "audio", 4, 3, seed=5)
    trials = make_trials(
        [u.key for u in corpus.utterances], [u.speaker for u in corpus.utterances], seed=0
    )
    write_trials(trials, root / "trials.txt")
    torch.manual_seed(0)
    model = sparsify.build_model(
        "ecapa-tdnn", channels=8, aggregation_channels=16, embedding_dim=16
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                module.weight *= torch.rand_like(module.weight) < 0.5
    save_model(model, root / "dense.safetensors")
    save_model(model, root / "bitmask.safetensors", layout="bitmask")
    export_onnx(load_artifact(root / "dense.safetensors"), root / "model.onnx")
    (root / "run").mkdir()
    save_model(model, root / "run" / "model.safetensors")
    return root


def run(folder, path, *options):
    arguments = ["--trials", folder / "trials.txt", "--audio-root", folder / "audio", "-q"]
    arguments = ["evaluate", folder / path, *arguments, "--threads", 1, *options]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def evaluated(folder, path, *options):
    result = run(folder, path, "--json", *options)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_every_format_gives_the_same_rates(folder):
    dense = evaluated(folder, "dense.safetensors")
    assert list(dense) == KEYS
    assert dense["path"] == str(folder / "dense.safetensors")
    assert (dense["trials"], dense["targets"], dense["nontargets"]) == (66, 12, 54)
    assert dense["utterances"] == 12
    assert 0 < dense["eer_percent"] < 60
    for path in ("bitmask.safetensors", "run", "model.onnx"):
        other = evaluated(folder, path)
        assert other["eer_percent"] == pytest.approx(dense["eer_percent"], abs=1e-9), path
        assert other["min_dcf"] == pytest.approx(dense["min_dcf"], abs=1e-9), path


def test_the_rates_are_those_of_the_network_itself(folder):
    model = load_artifact(folder / "dense.safetensors").build()
    lines = [line.split() for line in (folder / "trials.txt").read_text().splitlines()]
    embeddings = {}
    for name in {name for line in lines for name in line[1:]}:
        samples, rate = sf.read(folder / "audio" / name, dtype="float32")
        feats = torchaudio.compliance.kaldi.fbank(
            torch.from_numpy(samples)[None] * 2**15,
            sample_frequency=rate,
            num_mel_bins=80,
            high_freq=-400,
            snip_edges=False,
        )
        with torch.inference_mode():
            embeddings[name] = model((feats - feats.mean(0))[None])[0]
    scores = [
        float(torch.cosine_similarity(embeddings[a], embeddings[b], dim=0)) for _, a, b in lines
    ]
    false_alarm, hit, _ = roc_curve([int(line[0]) for line in lines], scores)
    result = evaluated(folder, "dense.safetensors", "--p-target", "0.05")
    rate = brentq(lambda rate: 1 - rate - np.interp(rate, false_alarm, hit), 0, 1)
    assert result["eer_percent"] == pytest.approx(100 * rate, abs=1e-6)
    cost = (0.05 * (1 - hit) + 0.95 * false_alarm).min() / 0.05
    assert result["min_dcf"] == pytest.approx(cost, abs=1e-6)
    assert result["p_target"] == 0.05


def test_the_table_names_the_rates(folder):
    result = run(folder, "run")
    assert result.exit_code == 0
    for word in ("EER", "minDCF (p = 0.01)", "66", "utterances"):
        assert word in result.stdout
    assert result.stderr == ""


def test_the_gate_decides_the_exit_code(folder):
    rate = evaluated(folder, "run")["eer_percent"]
    assert run(folder, "run", "--max-eer", rate + 0.01).exit_code == 0
    failed = run(folder, "run", "--max-eer", rate - 0.01, "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["eer_percent"] == rate
    assert "above --max-eer" in failed.stderr


def test_a_foreign_file_is_evaluated_with_a_note(folder):
    model = onnx.load(folder / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, folder / "foreign.onnx")
    rates = evaluated(folder, "foreign.onnx")
    assert rates["eer_percent"] == evaluated(folder, "model.onnx")["eer_percent"]
    arguments = ["--trials", str(folder / "trials.txt"), "--audio-root", str(folder / "audio")]
    result = CliRunner().invoke(main, ["evaluate", str(folder / "foreign.onnx"), *arguments])
    assert "does not say which features it expects" in result.stderr


@pytest.mark.parametrize(
    ("path", "options", "sentence"),
    [
        ("absent", (), "no such file"),
        ("trials.txt", (), "is not a model"),
        ("run", ("--audio-root", "elsewhere"), "--audio-root"),
        ("run", ("--trials", "absent.txt"), "no trial list 'absent.txt'"),
        ("run", ("--p-target", "1"), "--p-target"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(folder, path, options, sentence):
    result = run(folder, path, *options)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")
