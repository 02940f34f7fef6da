"""`sparsify verify`: scores, decisions, exit codes, and the calibration that evaluate wrote."""

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from sparsify.artifact.loading import load_model
from sparsify.artifact.saving import save_model
from sparsify.audio.decode import read_audio
from sparsify.audio.features import Filterbank
from sparsify.cli.main import main
from sparsify.corpus.synthetic import write_synthetic
from sparsify.models.registry import build_model
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.trials import make_trials, read_trials, write_trials


@pytest.fixture
def folder(artifacts, tmp_path):
    """A run and its export, three voices, and trials over them."""
    shutil.copytree(artifacts["run"], tmp_path / "run")
    shutil.copy(artifacts["onnx"], tmp_path / "run" / "model.onnx")
    corpus = write_synthetic(tmp_path / "audio", 3, 2, seed=5)
    keys = [u.key for u in corpus.utterances]
    trials = make_trials(keys, [u.speaker for u in corpus.utterances], seed=0)
    write_trials(trials, tmp_path / "trials.txt")
    return tmp_path


def command(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments), "--threads", "1", "-q"])


def verified(folder, model, first, second, *options):
    files = (folder / "audio" / first, folder / "audio" / second)
    result = command("verify", folder / model, *files, *options, "--json")
    assert result.exit_code in (0, 1), result.stderr
    return json.loads(result.stdout), result.exit_code


def calibrate(folder, *options):
    result = command(
        *("evaluate", folder / "run", "--trials", folder / "trials.txt"),
        *("--audio-root", folder / "audio", "--calibrate", folder / "run" / "calibration.json"),
        *("--p-target", 0.3, "--json", *options),
    )
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def names(folder):
    trials = read_trials(folder / "trials.txt")
    pairs = zip(trials.enrolment, trials.test, trials.targets, strict=True)
    return [(trials.utterances[i], trials.utterances[j], bool(t)) for i, j, t in pairs]


def test_the_score_is_the_cosine_of_the_embeddings(folder, artifacts):
    first, second, _ = names(folder)[0]
    network, rows = load_model(artifacts["dense"]), []
    for name in (first, second):
        features = Filterbank(FrontEnd()).features(read_audio(folder / "audio" / name, 16000))
        with torch.inference_mode():
            rows.append(network(torch.from_numpy(features)[None])[0].numpy())
    cosine = float(np.dot(*rows) / np.prod(np.linalg.norm(rows, axis=1)))
    found, code = verified(folder, "run", first, second)
    assert code == 0
    keys = ["path", "enrolment", "test", "score", "threshold", "same_speaker", "seconds"]
    keys += ["gates"]
    assert list(found) == keys
    assert found["score"] == pytest.approx(cosine, abs=1e-5)
    assert (found["threshold"], found["same_speaker"]) == (None, None)


def test_the_threshold_decides_and_the_gate_tells(folder):
    first, second, _ = names(folder)[0]
    score = verified(folder, "run", first, second)[0]["score"]
    for threshold, same in ((score, True), (score - 0.01, True), (score + 0.01, False)):
        found, code = verified(folder, "run", first, second, "--threshold", threshold)
        assert (found["same_speaker"], code) == (same, 0)
        gate = ("--threshold", threshold, "--require-match")
        assert verified(folder, "run", first, second, *gate)[1] == (not same)
    files = (folder / "audio" / first, folder / "audio" / second)
    told = command("verify", folder / "run", *files, *gate, "--quiet").output
    assert told == (
        f"Failed: the score {score:.4f} is below the threshold {threshold:.4f} of --require-match\n"
    )


@pytest.mark.parametrize("with_cohort", [False, True])
def test_decisions_repeat_the_error_rates_of_the_calibration(folder, with_cohort):
    options = ()
    if with_cohort:
        write_synthetic(folder / "others", 4, 2, seed=8)
        options = ("--subtract-mean", "--score-norm", "as-norm", "--top-n", 3)
        options += ("--cohort", folder / "others")
    evaluation = calibrate(folder, *options)
    cost = {True: 0.0, False: 0.0}
    for first, second, target in names(folder):
        for model in ("run", "run/model.onnx"):
            found, _ = verified(folder, model, first, second, "--at", "min-dcf-0.3")
            cost[target] += (found["same_speaker"] != target) / 2
    share = {kind: cost[kind] / sum(t == kind for *_, t in names(folder)) for kind in cost}
    dcf = (0.3 * share[True] + 0.7 * share[False]) / 0.3
    assert dcf == pytest.approx(evaluation["min_dcf"], abs=1e-9)


def test_a_calibration_serves_its_model_only(folder, artifacts):
    calibrate(folder)
    first, second, _ = names(folder)[0]
    files = (folder / "audio" / first, folder / "audio" / second)
    found = verified(folder, "run", first, second)[0]
    content = json.loads((folder / "run" / "calibration.json").read_text())
    assert found["threshold"] == content["thresholds"]["eer"]
    elsewhere = ("--calibration", folder / "run" / "calibration.json")
    assert command("verify", artifacts["dense"], *files, *elsewhere).exit_code == 0
    other = folder / "other.safetensors"
    save_model(build_model("ecapa-tdnn", channels=16, embedding_dim=8), other)
    result = command("verify", other, *files, *elsewhere)
    assert result.exit_code == 2
    assert "made with another model" in result.stderr


def test_the_sentence_for_people(folder):
    first, second, _ = names(folder)[0]
    files = (folder / "audio" / first, folder / "audio" / second)
    assert "no threshold to decide by" in command("verify", folder / "run", *files).stdout
    for threshold, answer in ((-1, "same speaker"), (1, "different speakers")):
        said = command("verify", folder / "run", *files, "--threshold", threshold).stdout
        assert said.startswith(f"{answer} (score ")


def test_bad_input_is_one_sentence_and_code_2(folder):
    first, second, _ = names(folder)[0]
    files = (folder / "audio" / first, folder / "audio" / second)
    for arguments, sentence in (
        (("--require-match",), "--require-match needs a threshold"),
        (("--threshold", 0.5, "--calibration", __file__), "exclude each other"),
        (("--threshold", "nan"), "must be a cosine"),
        (("--threshold", 5), "must be a cosine"),
        (("--threshold", 0.5, "--at", "eer"), "exclude each other"),
        (("--at", "min-dcf-0.01"), "needs a calibration"),
        (("--calibration", folder / "absent.json"), "no calibration"),
    ):
        result = command("verify", folder / "run", *files, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert sentence in result.stderr
    calibrate(folder)
    result = command("verify", folder / "run", *files, "--at", "min-dcf-0.5")
    assert result.exit_code == 2
    assert "no threshold 'min-dcf-0.5'" in result.stderr
    result = command("verify", folder / "run", files[0], folder / "absent.wav")
    assert result.exit_code == 2
    assert "absent.wav" in result.stderr
