"""Corruption of utterances: its statistics, its determinism, the evaluation set made with it."""

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import welch

from sparsify.augment.corruption import corrupt, corrupt_utterance
from sparsify.corpus.speech_mini import SUBSETS, speakers

RATE = 16000


def white(seed, count=4 * RATE):
    return (0.1 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def test_the_noise_lies_at_the_snr_that_was_drawn():
    # Of a narrow tone the equalised part is known by projection; the rest is noise.
    time = np.arange(RATE) / RATE
    tone = (0.1 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    quadrature = 0.1 * np.cos(2 * np.pi * 1000 * time)
    ratios = []
    for seed in range(400):
        found = corrupt(np.random.default_rng(seed), tone).astype(float)
        speech = sum(w * (found @ w) / (w @ w) for w in (tone.astype(float), quadrature))
        ratios.append(10 * np.log10((speech**2).mean() / ((found - speech) ** 2).mean()))
    assert min(ratios) == pytest.approx(5, abs=0.3)
    assert max(ratios) == pytest.approx(15, abs=0.3)
    assert np.mean(ratios) == pytest.approx(10, abs=0.5)


def test_the_equalisation_varies_as_stated():
    # The loudest parts of a spectrum with deep valleys show the gain; noise fills the valleys.
    time = np.arange(RATE) / RATE
    tones = sum(np.sin(2 * np.pi * f * time + f) for f in (600, 4600)).astype(np.float32) / 20
    gains = []
    for seed in range(400):
        spectrum = np.abs(np.fft.rfft(corrupt(np.random.default_rng(seed), tones)))
        gains.append(20 * np.log10(spectrum[600] / spectrum[4600]))
    # Knots lie 8000/7 Hz apart, so both tones are means of two knots of deviation 4 dB, in shares
    # 0.475/0.525 and 0.975/0.025; the two pairs of knots are different.
    expected = 4 * np.sqrt(0.475**2 + 0.525**2 + 0.975**2 + 0.025**2)
    assert np.std(gains) == pytest.approx(expected, rel=0.12)


def test_the_noise_is_coloured():
    # Silence but for one click: nearly all of the power is noise, whose bands differ by decibels.
    levels = []
    for seed in range(100):
        click = np.zeros(RATE, dtype=np.float32)
        click[RATE // 2] = 0.5
        found = corrupt(np.random.default_rng(seed), click)[: RATE // 2 - 1000]
        _, power = welch(found, RATE, nperseg=512)
        levels.append(10 * np.log10(power[20:40].mean() / power[-60:-40].mean()))
    assert 6 < np.std(levels) < 14


def test_name_and_seed_decide():
    samples = white(0, RATE)
    first = corrupt_utterance(samples, "a/1.wav", 0)
    np.testing.assert_array_equal(corrupt_utterance(samples, "a/1.wav", 0), first)
    for name, seed in (("a/2.wav", 0), ("a/1.wav", 1)):
        other = corrupt_utterance(samples, name, seed)
        assert abs(np.corrcoef(other - samples, first - samples)[0, 1]) < 0.9
    assert first.dtype == np.float32
    assert first.shape == samples.shape


def test_full_scale_stays_below_full_scale_and_silence_silent():
    loud = np.sign(white(1, RATE))
    assert np.abs(corrupt(np.random.default_rng(0), loud)).max() == pytest.approx(0.99, abs=1e-6)
    assert not corrupt(np.random.default_rng(0), np.zeros(RATE, dtype=np.float32)).any()


def decibels(signal, other):
    return 10 * np.log10(np.mean(signal**2) / np.mean((signal - other) ** 2))


def test_the_noisy_set_is_the_corrupted_clean_one(speech_mini):
    """As far as Ogg Vorbis lets it be seen, which was applied after the corruption.

    One generator makes all of the noise, so that a single wrong draw or length spoils all that
    follows. Of most speakers only the draws are repeated.
    """
    rng, wrong = np.random.default_rng(SUBSETS[2].seed), np.random.default_rng(0)
    chosen = sorted((s for s in speakers() if s.split == "test"), key=lambda s: s.speaker)
    right, chance = [], []
    for number, speaker in enumerate(chosen):
        for name in speaker.utterances:
            file = f"{speaker.speaker}/{name}.ogg"
            if number in (0, len(chosen) - 1):
                clean, _ = sf.read(speech_mini / "test" / file, dtype="float32")
                noisy, _ = sf.read(speech_mini / "test_noisy" / file, dtype="float32")
                right.append(decibels(noisy, corrupt(rng, clean)))
                chance.append(decibels(noisy, corrupt(wrong, clean)))
            else:
                rng.normal(size=8 + sf.info(speech_mini / "test" / file).frames + 8)
                rng.uniform()
    assert len(right) == 24
    assert min(right) > 6
    assert np.median(right) > 13
    assert np.median(chance) < 6
