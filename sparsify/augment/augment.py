"""Seeded corruption of training crops: speed, equalisation, rooms and noise."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from sparsify.audio._torchaudio import torchaudio_module
from sparsify.audio.resampling import one_thread
from sparsify.audio.samples import Samples
from sparsify.augment.recordings import Recordings
from sparsify.augment.reverb import reverberate, simulated_room
from sparsify.recipe.sections import AugmentSection

_KNOTS = 8
_PEAK = 0.99
_FINEST_SPEED = 100


class Augmenter:
    """Corrupts crops as a recipe says: equalises them, and puts them into rooms or adds noise.

    Args:
        section: What to do, and how often.
        sample_rate: Rate of the crops in Hz.

    Raises:
        SparsifyError: A folder of recordings is missing or empty.
    """

    def __init__(self, section: AugmentSection, sample_rate: int) -> None:
        self.section = section
        self.sample_rate = sample_rate
        self._noise = Recordings(section.noise, sample_rate) if section.noise else None
        self._rooms = Recordings(section.reverb, sample_rate) if section.reverb else None

    def __call__(self, rng: np.random.Generator, crop: Samples) -> Samples:
        """Corrupts a crop, with the section's probability.

        Args:
            rng: Source of every random choice.
            crop: Samples in [-1, 1], `(samples,)`.

        Returns:
            Samples whose peak is at most 0.99 where they were changed, `(samples,)`.

        Raises:
            SparsifyError: A recording cannot be used.
        """
        section = self.section
        if rng.random() >= section.probability:
            return crop
        equalised = equalise(rng, crop, section.equaliser_db)
        if section.reverb_share > 0 and rng.random() < section.reverb_share:
            return limit_peak(reverberate(equalised, self._room(rng)))
        return limit_peak(self._noisy(rng, equalised))

    def _room(self, rng: np.random.Generator) -> Samples:
        if self._rooms is not None:
            return self._rooms.whole(rng)
        return simulated_room(rng, rng.uniform(*self.section.rt60), self.sample_rate)

    def _noisy(self, rng: np.random.Generator, samples: Samples) -> Samples:
        section = self.section
        if self._noise is None:
            return add_noise(rng, samples, rng.uniform(*section.snr_db), section.noise_colour_db)
        kind, noise = self._noise.piece(rng, len(samples))
        ranges = section.noise_snr_db
        return mix(samples, noise, rng.uniform(*ranges.get(kind, ranges["noise"])))


def equalise(rng: np.random.Generator, samples: Samples, deviation_db: float) -> Samples:
    """Applies a random smooth gain of the given standard deviation over the band."""
    spectrum = np.fft.rfft(samples)
    gain = _smooth_gain(rng, len(spectrum), deviation_db)
    return np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)


def add_noise(
    rng: np.random.Generator, samples: Samples, snr_db: float, colour_db: float
) -> Samples:
    """Adds Gaussian noise of random smooth spectrum at exactly the given signal-to-noise ratio."""
    white = rng.standard_normal(len(samples), dtype=np.float32)
    return mix(samples, equalise(rng, white, colour_db), snr_db)


def mix(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Adds noise `(samples,)` at exactly the given signal-to-noise ratio."""
    ratio = np.square(samples).mean() / max(np.square(noise).mean(), np.finfo(np.float32).tiny)
    return samples + noise * np.float32(np.sqrt(ratio) * 10 ** (-snr_db / 20))


def limit_peak(samples: Samples) -> Samples:
    """Scales samples down so that their peak is at most 0.99."""
    return samples * np.float32(min(1.0, _PEAK / max(float(np.abs(samples).max()), _PEAK)))


def source_samples(speed: float, samples: int) -> int:
    """How many samples to play at `speed` to fill `samples`."""
    ratio = _ratio(speed)
    return -(-samples * ratio.numerator // ratio.denominator)


def change_speed(waveforms: Samples, speed: float, samples: int) -> Samples:
    """Plays waveforms faster or slower by resampling; pitch and formants move along.

    Args:
        waveforms: `(B, source_samples(speed, samples))`.
        speed: 1.1 is ten per cent faster and higher.
        samples: Wanted length.

    Returns:
        `(B, samples)`.
    """
    if speed == 1:
        return waveforms
    with one_thread():
        resampled: Samples = _resampler(_ratio(speed))(torch.from_numpy(waveforms)).numpy()
    return resampled[:, :samples]


def _smooth_gain(rng: np.random.Generator, bins: int, deviation_db: float) -> Samples:
    """Knots of N(0, deviation_db) dB, linearly interpolated over the band, as factors."""
    knots = rng.normal(0, deviation_db, _KNOTS)
    gain_db = np.interp(np.linspace(0, _KNOTS - 1, bins), np.arange(_KNOTS), knots)
    return np.power(10, gain_db / 20).astype(np.float32)


def _ratio(speed: float) -> Fraction:
    return Fraction(speed).limit_denominator(_FINEST_SPEED)


@lru_cache
def _resampler(ratio: Fraction) -> Any:
    """The filters of one speed, computed once."""
    transforms = torchaudio_module("transforms")
    return transforms.Resample(ratio.numerator, ratio.denominator)
