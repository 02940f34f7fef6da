"""Evaluation over files and over features, with embedders whose answers are known."""

import dataclasses

import numpy as np
import pytest
import soundfile as sf

from sparsify.audio.decode import read_audio
from sparsify.audio.features import Filterbank
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.evaluate import evaluate, evaluate_features, trial_embeddings
from sparsify.verification.trials import Trials, make_trials, read_trials

RATE = 16000


@pytest.fixture
def tones(tmp_path):
    """Speakers are pitches: two utterances each of three of them, of different lengths."""
    rng = np.random.default_rng(0)
    names = []
    for pitch in (200, 800, 3000):
        for i in range(2):
            time = np.arange(int(RATE * (0.4 + 0.15 * i))) / RATE
            wave = 0.3 * np.sin(2 * np.pi * pitch * time) * (1 + np.sin(20 * time)) / 2
            names.append(f"{pitch}/{i}.wav")
            path = tmp_path / names[-1]
            path.parent.mkdir(exist_ok=True)
            sf.write(path, wave + 0.001 * rng.standard_normal(len(time)), RATE)
    return tmp_path, names


def spread(features):
    return features.std(axis=0)


def test_files_are_embedded_once_whole_and_alone(tones):
    root, names = tones
    trials = make_trials(names, [name.split("/")[0] for name in names], seed=0)
    seen = []

    def embedder(features):
        seen.append(features)
        return spread(features)

    result = evaluate(embedder, trials, root, FrontEnd(), p_target=0.05)
    filterbank = Filterbank(FrontEnd())
    assert len(seen) == len(names)
    for features, name in zip(seen, names, strict=True):
        np.testing.assert_array_equal(features, filterbank.features(read_audio(root / name, RATE)))
    assert (result.trials, result.targets, result.nontargets) == (15, 3, 12)
    assert result.utterances == 6
    assert result.p_target == 0.05
    again = evaluate_features(spread, seen, trials, p_target=0.05)
    assert dataclasses.replace(again, seconds=result.seconds) == result


def test_perfect_and_useless_embedders():
    speakers = np.repeat(np.arange(4), 3)
    features = [np.tile(np.eye(4, dtype=np.float32)[speaker], (5, 1)) for speaker in speakers]
    trials = make_trials([str(i) for i in range(12)], speakers.tolist(), seed=0)
    perfect = evaluate_features(lambda x: x.mean(0), features, trials)
    assert (perfect.eer_percent, perfect.min_dcf) == (0, 0)
    useless = evaluate_features(lambda x: np.ones(3, np.float32), features, trials)
    assert (useless.eer_percent, useless.min_dcf) == (pytest.approx(50), 1)


def test_missing_audio_is_one_sentence(tones):
    root, names = tones
    trials = make_trials([*names[:-1], "3000/absent.wav"], [n[:3] for n in names], seed=0)
    with pytest.raises(SparsifyError, match=r"^1 of the 6 utterances .*absent\.wav.*--audio-root"):
        evaluate(spread, trials, root, FrontEnd())


def test_corruption_depends_on_the_name_and_the_seed_alone(tones):
    root, names = tones
    trials = make_trials(names, [n[:3] for n in names], seed=0)
    backwards = Trials(trials.utterances[::-1], trials.enrolment, trials.test, trials.targets)

    def embeddings(of, seed):
        return trial_embeddings(spread, of, root, FrontEnd(), corruption_seed=seed)

    first, other, clean = (embeddings(trials, seed) for seed in (1, 2, None))
    np.testing.assert_array_equal(embeddings(backwards, 1)[::-1], first)
    assert (np.abs(first - clean).max(axis=1) > 0.1).all()
    assert (np.abs(first - other).max(axis=1) > 0.1).all()


def test_a_missing_extension_is_found(tones):
    root, names = tones
    trials = make_trials(names, [n[:3] for n in names], seed=0)
    bare = dataclasses.replace(trials, utterances=tuple(n.removesuffix(".wav") for n in names))
    np.testing.assert_array_equal(
        trial_embeddings(spread, bare, root, FrontEnd()),
        trial_embeddings(spread, trials, root, FrontEnd()),
    )


def test_trials_of_one_kind_are_refused_before_anything_is_embedded():
    index = np.array([0, 1])
    trials = Trials(("a", "b"), index, index[::-1], np.array([True, True]))

    def embedder(features):
        raise AssertionError("embedded in vain")

    with pytest.raises(SparsifyError, match="no nontarget trials"):
        evaluate_features(embedder, [np.zeros((3, 80), np.float32)] * 2, trials)


def test_speech_mini_has_the_documented_trials(speech_mini):
    trials = read_trials(speech_mini / "trials.txt")
    result = evaluate(spread, trials, speech_mini / "test", FrontEnd())
    assert (result.trials, result.targets, result.utterances) == (10164, 1452, 264)
    assert 5 < result.eer_percent < 45  # even a spectral spread knows something of the speaker
