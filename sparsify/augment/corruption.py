"""Seeded corruption of whole utterances, to measure how robust a model is.

Each utterance gets a random equalisation and coloured Gaussian noise of its own: the channel and
the noise that clean test recordings do not have. Training augments likewise; this definition stays
as it is whatever training does, so that error rates on corrupted speech remain comparable.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from sparsify.audio.samples import Samples

EQUALISER_DB = 4.0  # standard deviation of the knots of the equalisation
NOISE_COLOUR_DB = 8.0  # and of those of the noise's spectrum
SNR_DB = (5.0, 15.0)  # range of the signal-to-noise ratio
PEAK = 0.99
_KNOTS = 8


def corrupt(rng: np.random.Generator, samples: Samples) -> Samples:
    """Equalises an utterance and adds noise, in double precision.

    Only the spectrum of the samples is in theirs since NumPy 2, so last bits depend on its version.

    Args:
        rng: Source of every random choice; how it is drawn from is part of the definition.
        samples: The utterance in [-1, 1], `(samples,)`.

    Returns:
        `(samples,)`, scaled down where the peak would exceed 0.99.
    """
    count = len(samples)
    speech = _shape(np.fft.rfft(samples), rng, EQUALISER_DB, count)
    noise = _shape(np.fft.rfft(rng.normal(size=count)), rng, NOISE_COLOUR_DB, count)
    ratio = np.square(speech).mean() / np.square(noise).mean()
    noise *= np.sqrt(ratio) * 10 ** (-rng.uniform(*SNR_DB) / 20)
    mixture = speech + noise
    return (mixture / max(1, np.abs(mixture).max() / PEAK)).astype(np.float32)


def corrupt_utterance(samples: Samples, name: str, seed: int) -> Samples:
    """`corrupt` as the name of the utterance and the seed alone decide, whatever the order."""
    return corrupt(utterance_rng(name, seed), samples)


def utterance_rng(name: str, seed: int) -> np.random.Generator:
    """The source of randomness that belongs to the utterance of this name."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8])])


def _shape(
    spectrum: npt.NDArray[np.complexfloating], rng: np.random.Generator, db: float, count: int
) -> npt.NDArray[np.float64]:
    """The signal of a spectrum after a gain of N(0, db) dB at knots, linear between them."""
    knots = rng.normal(0, db, _KNOTS)
    positions = np.linspace(0, _KNOTS - 1, len(spectrum))
    gain = 10 ** (np.interp(positions, np.arange(_KNOTS), knots) / 20)
    shaped: npt.NDArray[np.float64] = np.fft.irfft(spectrum * gain, count)
    return shaped
