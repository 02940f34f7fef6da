import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from sparsify.augment.augment import (
    Augmenter,
    add_noise,
    change_speed,
    equalise,
    limit_peak,
    source_samples,
)
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import AugmentSection

RATE = 16000


def noise(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def sine(frequency, samples):
    return np.sin(2 * np.pi * frequency / RATE * np.arange(samples)).astype(np.float32)


@given(st.floats(-5, 40), st.floats(0, 12), st.integers(400, 5000))
def test_noise_has_the_given_signal_to_noise_ratio(snr_db, colour_db, samples):
    clean = noise(samples)
    added = add_noise(np.random.default_rng(1), clean, snr_db, colour_db) - clean
    measured = 10 * np.log10(np.mean(clean.astype(float) ** 2) / np.mean(added.astype(float) ** 2))
    assert measured == pytest.approx(snr_db, abs=0.05)


def test_noise_on_silence_is_silence():
    silence = np.zeros(1000, dtype=np.float32)
    assert np.array_equal(add_noise(np.random.default_rng(0), silence, 10, 8), silence)


def test_coloured_noise_has_a_smooth_spectrum_of_the_given_deviation():
    samples, levels = 16000, []
    for seed in range(200):
        added = add_noise(np.random.default_rng(seed), noise(samples), 0, 8.0) - noise(samples)
        power = np.abs(np.fft.rfft(added)) ** 2
        # Level at the inner knots, where the interpolation reaches N(0, 8 dB), less the average.
        knots = [power[k * 8000 // 7 - 200 : k * 8000 // 7 + 200].mean() for k in range(1, 7)]
        levels.append(10 * np.log10(knots))
    spread = np.std(np.array(levels) - np.mean(levels, axis=1, keepdims=True), ddof=0)
    assert spread == pytest.approx(8.0 * np.sqrt(5 / 6), rel=0.1)


def test_no_equalisation_is_the_identity():
    clean = noise(4001)
    np.testing.assert_allclose(equalise(np.random.default_rng(0), clean, 0.0), clean, atol=1e-6)


def test_equalisation_is_linear_and_of_zero_phase():
    impulse = np.zeros(2001, dtype=np.float32)
    impulse[1000] = 1
    response = equalise(np.random.default_rng(0), impulse, 6.0)
    np.testing.assert_allclose(response, response[::-1], atol=1e-6)
    doubled = equalise(np.random.default_rng(0), 2 * impulse, 6.0)
    np.testing.assert_allclose(doubled, 2 * response, atol=1e-6)


@given(st.integers(0, 10_000), st.floats(0, 12), st.floats(0.001, 1))
def test_augmented_crops_are_finite_and_within_full_scale(seed, equaliser_db, level):
    section = AugmentSection(probability=1, equaliser_db=equaliser_db, snr_db=(-10, 0))
    crop = np.float32(level) * np.sign(noise(2000, seed))
    augmented = Augmenter(section, RATE)(np.random.default_rng(seed), crop)
    assert augmented.dtype == np.float32
    assert np.isfinite(augmented).all()
    assert np.abs(augmented).max() <= 0.9901


def test_probability_is_the_share_of_changed_crops():
    crop = noise(400)
    augmenter = Augmenter(AugmentSection(probability=0.6), RATE)
    rngs = [np.random.default_rng(seed) for seed in range(2000)]
    changed = [not np.array_equal(augmenter(rng, crop), crop) for rng in rngs]
    assert np.mean(changed) == pytest.approx(0.6, abs=0.035)


def test_the_signal_to_noise_ratio_is_drawn_from_its_range():
    section = AugmentSection(probability=1, equaliser_db=0, noise_colour_db=0, snr_db=(5, 15))
    augmenter = Augmenter(section, RATE)
    clean = 0.1 * noise(4000)
    added = [augmenter(np.random.default_rng(s), clean) - clean for s in range(300)]
    ratios = [10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) for noise in added]
    assert 5 <= min(ratios) < 5.5
    assert 14.5 < max(ratios) <= 15.01
    assert np.mean(ratios) == pytest.approx(10, abs=0.5)


@pytest.fixture
def musan(tmp_path):
    """Recordings in the folders of MUSAN, each a sine of its own frequency, and one elsewhere."""
    for kind, frequency in (("noise", 500), ("speech", 1000), ("music", 2000), ("other", 3000)):
        path = tmp_path / "musan" / kind / "sub" / f"{kind}.wav"
        path.parent.mkdir(parents=True)
        sf.write(path, 0.1 * sine(frequency, 3 * RATE), RATE)
    return tmp_path / "musan"


def test_recorded_noise_has_the_ratio_of_its_folder(musan):
    ranges = {"noise": (1, 2), "speech": (11, 12), "music": (21, 22)}
    section = AugmentSection(probability=1, equaliser_db=0, noise=str(musan), noise_snr_db=ranges)
    augmenter = Augmenter(section, RATE)
    clean = 0.1 * noise(RATE // 2)
    seen = set()
    for seed in range(40):
        added = augmenter(np.random.default_rng(seed), clean) - clean
        frequency = int(np.abs(np.fft.rfft(added)).argmax()) * 2
        kind = {500: "noise", 1000: "speech", 2000: "music", 3000: "other"}[frequency]
        seen.add(kind)
        low, high = ranges.get(kind, ranges["noise"])
        ratio = 10 * np.log10(np.mean(clean**2) / np.mean(added**2))
        assert low - 0.01 <= ratio <= high + 0.01
    assert seen == {"noise", "speech", "music", "other"}


def test_recorded_rooms_and_the_share_of_reverberated_crops(tmp_path):
    response = np.zeros(200, np.float32)
    response[50] = 0.5  # a pure delay
    sf.write(tmp_path / "room.wav", response, RATE, subtype="FLOAT")
    section = AugmentSection(
        probability=1, equaliser_db=0, reverb=str(tmp_path), reverb_share=0.3, snr_db=(0, 0)
    )
    augmenter = Augmenter(section, RATE)
    clean = noise(2000)
    delayed = 0
    for seed in range(500):
        crop = augmenter(np.random.default_rng(seed), clean)
        delayed += np.corrcoef(crop[50:], clean[:-50])[0, 1] > 0.99
    assert delayed / 500 == pytest.approx(0.3, abs=0.06)


def test_folders_without_recordings_are_named(tmp_path):
    for key in ("noise", "reverb"):
        with pytest.raises(SparsifyError, match="nosuch"):
            Augmenter(AugmentSection(**{key: str(tmp_path / "nosuch")}), RATE)
        with pytest.raises(SparsifyError, match="no audio"):
            Augmenter(AugmentSection(**{key: str(tmp_path)}), RATE)


def test_limit_peak_leaves_quiet_samples_alone():
    quiet = noise(100)
    assert np.array_equal(limit_peak(quiet), quiet)
    assert np.abs(limit_peak(100 * quiet)).max() == pytest.approx(0.99)


@pytest.mark.parametrize("speed", [0.5, 0.9, 0.95, 1.1, 1.5])
def test_speed_scales_the_frequency_of_a_sine(speed):
    samples = 8000
    tones = np.stack([sine(f, source_samples(speed, samples)) for f in (440, 2500)])
    played = change_speed(tones, speed, samples)
    assert played.shape == (2, samples)
    expected = np.stack([sine(f * speed, samples) for f in (440, 2500)])
    inner = slice(50, -50)
    np.testing.assert_allclose(played[:, inner], expected[:, inner], atol=0.01)


@given(st.integers(400, 50_000), st.sampled_from([0.5, 0.77, 0.9, 1.0, 1.1, 1.31, 2.0]))
def test_speed_fills_exactly_the_wanted_length(samples, speed):
    source = source_samples(speed, samples)
    assert source == pytest.approx(samples * speed, abs=1)
    assert change_speed(np.zeros((1, source), np.float32), speed, samples).shape == (1, samples)
