from dataclasses import replace

import numpy as np
import pytest

from sparsify.corpus.cache import load_audio
from sparsify.corpus.layouts import load_corpus
from sparsify.corpus.synthetic import draw_voice, speak, synthetic_corpus, write_synthetic
from sparsify.user_cache import keep

RATE = 16000


def measured_pitch(samples, low=60, high=400):
    """Median over voiced frames of the frequency that maximises the autocorrelation."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 800)[::400]
    frames = frames[np.square(frames).mean(axis=1) > np.square(samples).mean()]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(800), 2048)) ** 2
    correlation = np.fft.irfft(spectra)
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(800), 2048)) ** 2)
    lags = np.arange(RATE // high, RATE // low)
    normalised = correlation[:, lags] / correlation[:, :1] / window[lags] * window[0]
    # The first strong peak: multiples of a period correlate as well as the period itself.
    inner = normalised[:, 1:-1]
    peaks = (inner > normalised[:, :-2]) & (inner >= normalised[:, 2:])
    strong = peaks & (inner > 0.8 * inner.max(axis=1, keepdims=True)) & (inner > 0.5)
    voiced = strong.any(axis=1)
    return np.median(RATE / lags[1:-1][strong[voiced].argmax(axis=1)])


def test_deterministic_and_different_under_another_seed(monkeypatch, tmp_path):
    corpus, cache = synthetic_corpus(2, 2, seed=5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where none of it is kept
    again, cache_again = synthetic_corpus(2, 2, seed=5)
    other, other_cache = synthetic_corpus(2, 2, seed=6)
    assert corpus == again
    for utterance, different in zip(corpus.utterances, other.utterances, strict=True):
        waveform = cache.waveform(utterance)
        assert np.array_equal(waveform, cache_again.waveform(utterance))
        assert not np.array_equal(waveform, other_cache.waveform(different))
    voices = [draw_voice(np.random.default_rng([seed, 0, 0])) for seed in (5, 6)]
    assert voices[0].pitch != voices[1].pitch


def test_speakers_stay_themselves_when_there_are_more_of_them():
    (few, cache), (many, more) = synthetic_corpus(2, 2, seed=0), synthetic_corpus(3, 3, seed=0)
    listed = {utterance.key: utterance for utterance in many.utterances}
    for utterance in few.utterances:
        assert np.array_equal(cache.waveform(utterance), more.waveform(listed[utterance.key]))


def test_durations_level_and_names():
    corpus, cache = synthetic_corpus(3, 4, seed=0, sample_rate=8000)
    assert corpus.speakers == ("voice-000", "voice-001", "voice-002")
    for utterance in corpus.utterances:
        waveform = cache.waveform(utterance)
        assert 2 <= utterance.seconds <= 4
        assert len(waveform) == pytest.approx(utterance.seconds * 8000)
        assert 0.05 < np.abs(waveform).max() <= 0.99


@pytest.mark.parametrize("seed", range(8))
def test_the_pitch_heard_is_the_voice_s(seed):
    rng = np.random.default_rng(seed)
    voice = draw_voice(rng)
    assert 70 <= voice.pitch <= 350
    # Without pronounced formants, whose harmonics an autocorrelation takes for the pitch.
    flat = replace(voice, bandwidths=20 * voice.bandwidths)
    semitones = 12 * np.log2(measured_pitch(speak(flat, rng, 6.0, RATE)) / voice.pitch)
    assert abs(semitones) < voice.pitch_range


def test_the_long_term_spectrum_falls_as_the_tilt_says():
    rng = np.random.default_rng(0)
    voice = draw_voice(rng)

    def slope(tilt):
        tilted = replace(voice, tilt=tilt, breathiness=0.0)
        spectrum = np.abs(np.fft.rfft(speak(tilted, np.random.default_rng(1), 4.0, RATE))) ** 2
        bands = [spectrum[round(4 * f) : round(8 * f)].sum() for f in (500, 1000)]
        return 10 * np.log10(bands[1] / bands[0])

    assert slope(-12.0) - slope(-6.0) == pytest.approx(-6.0, abs=1.5)


def test_written_files_hold_the_same_speech(tmp_path):
    corpus, cache = synthetic_corpus(2, 2, seed=0)
    written = write_synthetic(tmp_path, 2, 2, seed=0)
    found, files = load_audio(load_corpus(tmp_path, strict=True), RATE)
    assert found.utterances == written.utterances
    for utterance, file in zip(corpus.utterances, found.utterances, strict=True):
        assert file.key == f"{utterance.key}.flac"
        assert np.array_equal(cache.waveform(utterance), files.waveform(file))


def test_progress_is_reported_for_every_utterance():
    seen = []

    def track(items, description, total):
        assert total == 4
        for item in items:
            seen.append(description)
            yield item

    synthetic_corpus(2, 2, seed=0, track=track)
    assert len(seen) == 4


def test_voices_that_are_kept_are_those_that_were_made(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = synthetic_corpus(2, 2, seed=1)
    files = [*(tmp_path / "sparsify" / "voices").iterdir()]
    assert len(files) == 2
    with monkeypatch.context() as patch:
        patch.setattr("sparsify.corpus.synthetic.speak", None)
        kept = synthetic_corpus(2, 2, seed=1)
    assert made[0] == kept[0]
    assert made[1].digest() == kept[1].digest()
    keep(b"of something else", files[0])
    files[1].write_bytes(files[1].read_bytes()[:-1])
    assert synthetic_corpus(2, 2, seed=1)[1].digest() == made[1].digest()
    assert synthetic_corpus(2, 2, seed=2)[1].digest() != made[1].digest()
