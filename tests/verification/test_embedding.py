"""From recordings to embeddings: order, names, unusable files, and what is embedded."""

import re

import numpy as np
import pytest
import soundfile as sf

from sparsify.audio.decode import read_audio
from sparsify.audio.features import Filterbank
from sparsify.augment.corruption import corrupt_utterance
from sparsify.corpus.layouts import load_corpus
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.embedding import (
    Recording,
    audio_features,
    corrupted,
    embed,
    embeddings_or_errors,
    file_recordings,
    locate,
    utterance_recordings,
)

RATE = 16000


@pytest.fixture
def noises(tmp_path_factory):
    """Two speakers with two recordings each, of different lengths."""
    folder = tmp_path_factory.mktemp("root") / "noises"
    rng = np.random.default_rng(0)
    for i, name in enumerate(("a/1.wav", "a/2.flac", "b/1.wav", "b/2.ogg")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, 0.1 * rng.standard_normal(int(RATE * (0.4 + 0.1 * i))), RATE)
    return folder


def spread(features):
    return features.std(axis=0)


def test_the_front_end_is_obeyed(noises):
    path = noises / "a/1.wav"
    for front_end in (FrontEnd(preset="wespeaker"), FrontEnd(sample_rate=8000, num_mel_bins=40)):
        (recording,) = file_recordings(["x"], [path], front_end.sample_rate)
        (features,) = audio_features([recording], front_end)
        samples = read_audio(path, front_end.sample_rate)
        np.testing.assert_array_equal(features, Filterbank(front_end).features(samples))


def test_more_files_than_are_read_ahead_keep_their_order(noises):
    paths = sorted(noises.rglob("*.*")) * 10
    recordings = file_recordings(map(str, paths), paths, RATE)
    lengths = [len(features) for features in audio_features(recordings, FrontEnd())]
    assert lengths == [40, 50, 60, 70] * 10


def test_unusable_recordings_are_reported_in_their_place(noises):
    (noises / "broken.wav").write_bytes(b"RIFF")
    sf.write(noises / "short.wav", np.zeros(100), RATE)
    names = ["a/1.wav", "broken.wav", "short.wav", "b/1.wav"]
    recordings = file_recordings(names, [noises / name for name in names], RATE)
    found = list(embeddings_or_errors(spread, recordings, FrontEnd()))
    assert [isinstance(each, SparsifyError) for each in found] == [False, True, True, False]
    assert "broken.wav" in str(found[1])
    assert "short.wav" in str(found[2])
    assert "frame" in str(found[2])
    with pytest.raises(SparsifyError, match=r"broken\.wav"):
        embed(spread, recordings, FrontEnd())


def test_what_the_embedder_refuses_is_reported(noises):
    def picky(features):
        if len(features) < 45:
            raise SparsifyError("too short for me")
        return spread(features)

    names = ["a/1.wav", "b/1.wav"]
    recordings = file_recordings(names, [noises / name for name in names], RATE)
    refused, accepted = embeddings_or_errors(picky, recordings, FrontEnd())
    assert str(refused) == f"{noises}/a/1.wav: too short for me"
    assert accepted.shape == (80,)


def test_embeddings_that_are_not_finite_are_reported(noises):
    recordings = file_recordings(["x"], [noises / "a/1.wav"], RATE)
    with pytest.raises(SparsifyError, match=r"embedding of '.*a/1\.wav' is not finite"):
        embed(lambda features: features[0] * np.nan, recordings, FrontEnd())


def test_a_corpus_is_read_like_its_files(noises):
    corpus = load_corpus(noises)
    files = file_recordings(
        [u.key for u in corpus.utterances], [u.path for u in corpus.utterances], RATE
    )
    expected = embed(spread, files, FrontEnd())
    recordings = utterance_recordings(corpus.utterances, RATE)
    assert [r.name for r in recordings] == ["a/1.wav", "a/2.flac", "b/1.wav", "b/2.ogg"]
    np.testing.assert_array_equal(embed(spread, recordings, FrontEnd()), expected)


def test_corruption_wraps_the_reading():
    samples = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) / 10
    (recording,) = corrupted([Recording("n", lambda: samples)], 3)
    np.testing.assert_array_equal(recording.read(), corrupt_utterance(samples, "n", 3))


def test_names_find_their_files_whatever_the_extension(noises):
    names = ["a/1.wav", "a/1", "a/2.wav", "a/2", "b/2.wav"]
    files = ["a/1.wav", "a/1.wav", "a/2.flac", "a/2.flac", "b/2.ogg"]
    assert locate(names, noises) == [noises / file for file in files]


def test_a_dot_in_a_name_is_not_taken_for_an_extension(noises):
    (noises / "a/1.wav").rename(noises / "a/1.2.wav")
    assert locate(["a/1.2"], noises) == [noises / "a/1.2.wav"]
    with pytest.raises(SparsifyError, match="have no file"):
        locate(["a/1.3"], noises)


def test_an_ambiguous_name_is_refused(noises):
    sf.write(noises / "a/1.flac", np.zeros(RATE), RATE)
    assert locate(["a/1.wav"], noises) == [noises / "a/1.wav"]
    with pytest.raises(SparsifyError, match=r"'a/1' may be .*1\.flac' or .*1\.wav'"):
        locate(["a/1"], noises)


def test_missing_files_are_counted(noises):
    with pytest.raises(SparsifyError, match=r"^2 of the 3 .*first is .*c/1'.*--audio-root"):
        locate(["a/1", "c/1", "a/7.wav"], noises)


def test_recordings_without_a_sound_are_warned_of_once(noises, caplog):
    for name, value in (("zeros", 0.0), ("constant", 0.25)):
        sf.write(noises / f"{name}.wav", np.full(RATE, value), RATE)
    names = ["a/1.wav", "zeros.wav", "constant.wav"]
    recordings = file_recordings(names, [noises / name for name in names], RATE)
    embed(spread, recordings, FrontEnd())
    (record,) = caplog.records
    assert re.search(r"digital silence.* in 2 .*such as .*constant\.wav", record.getMessage())
