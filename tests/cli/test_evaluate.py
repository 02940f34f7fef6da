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

from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.artifact.weights import read_weights
from sparsify.cli.main import main
from sparsify.corpus.synthetic import write_synthetic
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.verification.embedding import embed, file_recordings
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
    "min_dcfs",
    "subtract_mean",
    "score_norm",
    "cohort_speakers",
    "corruption_seed",
    "confidence",
    "baseline",
    "gates",
]


@pytest.fixture(scope="module")
def folder(artifacts, tmp_path_factory):
    """Four voices, a trial list, and one sparse random network in all formats."""
    root = tmp_path_factory.mktemp("evaluate")
    corpus = write_synthetic(root / "audio", 4, 3, seed=5)
    trials = make_trials(
        [u.key for u in corpus.utterances], [u.speaker for u in corpus.utterances], seed=0
    )
    write_trials(trials, root / "trials.txt")
    for file in artifacts.values():
        (root / file.name).symlink_to(file)
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
    printed = json.loads(failed.stdout)
    assert printed["eer_percent"] == rate
    gate = {"name": "max_eer", "threshold": rate - 0.01, "value": rate, "passed": False}
    assert printed["gates"] == [gate]
    assert "above --max-eer" in failed.stderr


@pytest.fixture(scope="module")
def worse(folder):
    """The network with weights that say less, and its rates."""
    model = load_artifact(folder / "dense.safetensors").build()
    generator = torch.Generator().manual_seed(1)
    for weight in prunable_parameters(model).values():
        weight.data += 0.4 * torch.randn(weight.shape, generator=generator)
    save_model(model, folder / "worse.safetensors")
    return evaluated(folder, "worse.safetensors", "--confidence", 90, "--resampled")


def test_a_loss_against_a_baseline_has_a_paired_interval(folder, worse):
    baseline = evaluated(folder, "run", "--confidence", 90, "--resampled")
    against = ("--baseline", folder / "run", "--confidence", 90)
    found = evaluated(folder, "worse.safetensors", *against)
    loss = worse["eer_percent"] - baseline["eer_percent"]
    assert loss != 0
    samples = (result["confidence"]["resampled_eer_percent"] for result in (worse, baseline))
    interval = np.percentile(np.subtract(*samples), [5, 95])
    assert {**found["baseline"], "eer_loss_interval": None} == {
        "path": str(folder / "run"),
        "eer_percent": baseline["eer_percent"],
        "min_dcf": baseline["min_dcf"],
        "eer_loss": pytest.approx(loss, abs=1e-9),
        "eer_loss_interval": None,
        "percent": 90,
    }
    assert found["baseline"]["eer_loss_interval"] == pytest.approx(interval, abs=1e-9)
    table = run(folder, "worse.safetensors", *against).stdout
    assert "baseline's" in table
    assert f"{loss:+.3f}" in table


def test_the_loss_is_a_gate(folder, worse):
    against = ("--baseline", folder / "run", "--json", "--max-eer-loss")
    rates = evaluated(folder, "worse.safetensors", *against, 100)
    loss = rates["baseline"]["eer_loss"]
    assert rates["baseline"]["percent"] == rates["confidence"]["percent"] == 95
    failed = run(folder, "worse.safetensors", *against, loss - 0.01)
    assert failed.exit_code == 1
    gate = {"name": "max_eer_loss", "threshold": loss - 0.01, "value": loss, "passed": False}
    assert json.loads(failed.stdout)["gates"] == [gate]
    assert "above --max-eer-loss" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    # Against itself nothing is lost, in any sample.
    same = evaluated(folder, "model.onnx", *against, 0.001)
    assert same["baseline"]["eer_loss"] == pytest.approx(0, abs=1e-9)
    assert same["baseline"]["eer_loss_interval"] == pytest.approx([0, 0], abs=1e-3)


def test_a_foreign_file_is_evaluated_with_a_note(folder):
    model = onnx.load(folder / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, folder / "foreign.onnx")
    rates = evaluated(folder, "foreign.onnx")
    assert rates["eer_percent"] == evaluated(folder, "model.onnx")["eer_percent"]
    arguments = ["--trials", str(folder / "trials.txt"), "--audio-root", str(folder / "audio")]
    result = CliRunner().invoke(main, ["evaluate", str(folder / "foreign.onnx"), *arguments])
    assert "does not say which features it expects" in result.stderr


def rows_of(folder, root, names):
    """Embeddings of files by the network itself, in float64."""
    model = load_speaker_model(folder / "dense.safetensors", 1)
    recordings = file_recordings(names, [folder / root / name for name in names], 16000)
    return embed(model.embedder, recordings, model.front_end).astype(float)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def cohort(folder):
    """Six other voices."""
    write_synthetic(folder / "others", 6, 2, seed=9)
    return folder / "others"


def test_cohort_scores_give_the_rates(folder, cohort):
    lines = [line.split() for line in (folder / "trials.txt").read_text().splitlines()]
    names = sorted({name for line in lines for name in line[1:]})
    others = sorted(path.relative_to(cohort).as_posix() for path in cohort.rglob("*.*"))
    of_cohort = rows_of(folder, "others", others)
    mean = of_cohort.mean(axis=0)
    rows = dict(zip(names, unit(rows_of(folder, "audio", names) - mean), strict=True))
    speakers = sorted({name.split("/")[0] for name in others})
    centred = unit(of_cohort - mean)
    against = unit(
        np.stack([centred[[n.startswith(f"{s}/") for n in others]].mean(axis=0) for s in speakers])
    )
    scores = []
    for _, first, second in lines:
        score = rows[first] @ rows[second]
        tops = [np.sort(against @ rows[name])[-4:] for name in (first, second)]
        scores.append(np.mean([(score - top.mean()) / top.std() for top in tops]))
    false_alarm, hit, _ = roc_curve([int(line[0]) for line in lines], scores)
    rate = brentq(lambda rate: 1 - rate - np.interp(rate, false_alarm, hit), 0, 1)
    options = ("--subtract-mean", "--score-norm", "as-norm", "--top-n", 4, "--cohort")
    result = evaluated(folder, "dense.safetensors", *options, cohort)
    assert result["eer_percent"] == pytest.approx(100 * rate, abs=1e-6)
    assert (result["subtract_mean"], result["score_norm"]) == (True, "as-norm")
    assert result["cohort_speakers"] == 6

    embedded = ["embed", folder / "dense.safetensors", cohort, "--output", folder / "others.npz"]
    assert CliRunner().invoke(main, [*map(str, embedded), "-q"]).exit_code == 0
    again = evaluated(folder, "dense.safetensors", *options, folder / "others.npz")
    assert again["eer_percent"] == result["eer_percent"]


def test_the_mean_in_a_file_is_subtracted(folder, cohort, tmp_path):
    wanted = evaluated(folder, "run", "--subtract-mean", "--cohort", cohort)
    others = sorted(path.relative_to(cohort).as_posix() for path in cohort.rglob("*.*"))
    mean = rows_of(folder, "others", others).mean(axis=0)
    path = tmp_path / "model.safetensors"
    model = load_artifact(folder / "dense.safetensors")
    save_model(model.build(), path, model.recipe, embedding_mean=torch.from_numpy(mean))
    found = evaluated(folder, path, "--subtract-mean")
    assert found["eer_percent"] == pytest.approx(wanted["eer_percent"], abs=1e-9)
    assert found["min_dcf"] == pytest.approx(wanted["min_dcf"], abs=1e-9)
    without = run(folder, "run", "--subtract-mean")
    assert without.exit_code == 2
    assert "does not carry the mean embedding" in without.stderr


def test_models_enrolled_with_several_utterances(folder):
    lines = [line.split() for line in (folder / "trials.txt").read_text().splitlines()]
    names = sorted({name for line in lines for name in line[1:]})
    speakers = sorted({name.split("/")[0] for name in names})
    first = {s: [n for n in names if n.startswith(f"{s}/")][:2] for s in speakers}
    (folder / "enroll.lst").write_text("".join(f"{s}-m {' '.join(first[s])}\n" for s in speakers))
    tests = [name for name in names if not any(name in chosen for chosen in first.values())]
    pairs = [(s, name) for s in speakers for name in tests]
    (folder / "trials.lst").write_text(
        "".join(f"{s}-m {name.partition('.')[0]} {name.startswith(s):d}\n" for s, name in pairs)
    )
    rows = dict(zip(names, unit(rows_of(folder, "audio", names)), strict=True))
    models = {s: unit(rows[first[s][0]] + rows[first[s][1]]) for s in speakers}
    scores = [models[s] @ rows[name] for s, name in pairs]
    false_alarm, hit, _ = roc_curve([name.startswith(s) for s, name in pairs], scores)
    rate = brentq(lambda rate: 1 - rate - np.interp(rate, false_alarm, hit), 0, 1)
    result = evaluated(
        *(folder, "run", "--trials", folder / "trials.lst", "--enroll", folder / "enroll.lst"),
        *("--confidence", 90),
    )
    assert result["eer_percent"] == pytest.approx(100 * rate, abs=1e-6)
    assert (result["trials"], result["targets"], result["utterances"]) == (16, 4, 12)
    assert result["confidence"]["speakers"] == 4


def test_several_costs(folder):
    options = ("--p-target", 0.05, "--p-target", 0.5, "--c-miss", 10, "--c-fa", 2)
    result = evaluated(folder, "run", *options)
    described = [
        {k: cost[k] for k in ("p_target", "c_miss", "c_fa")} for cost in result["min_dcfs"]
    ]
    assert described == [{"p_target": p, "c_miss": 10, "c_fa": 2} for p in (0.05, 0.5)]
    assert result["p_target"] == 0.05
    assert result["min_dcf"] == result["min_dcfs"][0]["min_dcf"]
    # p·c_miss and (1 − p)·c_fa in the ratio of p = 0.05, c = 10 and 2 are those of p = 10/48.
    same = evaluated(folder, "run", "--p-target", 10 / 48)
    assert result["min_dcf"] == pytest.approx(same["min_dcf"], abs=1e-9)


def test_confidence_intervals_enclose_the_rates(folder):
    result = evaluated(folder, "run", "--confidence", 95)
    assert "resampled_eer_percent" not in result["confidence"]
    low, high = result["confidence"]["eer_percent"]
    samples = evaluated(folder, "run", "--confidence", 95, "--resampled")["confidence"]
    assert np.percentile(samples["resampled_eer_percent"], [2.5, 97.5]) == pytest.approx(
        [low, high], abs=1e-3
    )
    assert low <= result["eer_percent"] <= high
    assert low < high
    ((low, high),) = result["confidence"]["min_dcf"]
    assert low <= result["min_dcf"] <= high
    table = run(folder, "run", "--confidence", 95).stdout
    assert "95% intervals" in table
    assert f"{result['confidence']['eer_percent'][0]:.3f} –" in table


def test_corruption_is_repeatable_and_matters(folder):
    clean, first, again, other = (
        evaluated(folder, "run", *options)
        for options in ((), ("--corrupt", 1), ("--corrupt", 1), ("--corrupt", 2))
    )
    assert first["corruption_seed"] == 1
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    rates = {(r["eer_percent"], r["min_dcf"]) for r in (clean, first, other)}
    assert len(rates) == 3


def test_the_det_curve_holds_the_rate(folder, tmp_path):
    result = evaluated(folder, "run", "--det", tmp_path / "det.csv")
    table = np.loadtxt(tmp_path / "det.csv", delimiter=",", skiprows=1)
    gap = table[:, 1] - table[:, 2]
    rate = np.interp(0, -gap, table[:, 2])
    assert result["eer_percent"] == pytest.approx(100 * rate, abs=1e-9)


def test_the_model_is_read_once(folder, monkeypatch):
    read = []

    def counted(path):
        read.append(path)
        return read_weights(path)

    monkeypatch.setattr("sparsify.artifact.loading.read_weights", counted)
    evaluated(folder, "dense.safetensors")
    assert len(read) == 1


@pytest.mark.parametrize(
    ("path", "options", "sentence"),
    [
        ("absent", (), "no such file"),
        ("trials.txt", (), "is not a model"),
        ("run", ("--audio-root", "elsewhere"), "--audio-root"),
        ("run", ("--trials", "absent.txt"), "no trial list 'absent.txt'"),
        ("run", ("--p-target", "1"), "--p-target"),
        ("run", ("--score-norm", "as-norm"), "--score-norm needs --cohort"),
        ("run", ("--cohort", "."), "--cohort serves"),
        ("run", ("--speakers", "x"), "--speakers serves --confidence"),
        ("run", ("--confidence", "95", "--resampled"), "with --json"),
        ("run", ("--max-eer-loss", "0.5"), "--max-eer-loss needs --baseline"),
        ("run", ("--baseline", "absent.onnx"), "no such file"),
        ("run", ("--confidence", "95", "--speakers", "absent"), "no list of speakers 'absent'"),
        ("run", ("--enroll", "absent"), "no enrolment list 'absent'"),
        ("run", ("--det", "det.txt"), "must end in .csv"),
        ("run", ("--calibrate", "absent/calibration.json"), "create the folder 'absent'"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(folder, path, options, sentence):
    result = run(folder, path, *options)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")
