"""Conditions under which whole utterances are heard: a room, other voices, the telephone.

Like `corruption` they measure how robust a model is, and stay as they are whatever training does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparsify.audio.resampling import resample
from sparsify.audio.samples import Samples
from sparsify.augment.augment import limit_peak, mix
from sparsify.augment.recordings import Recordings
from sparsify.augment.reverb import reverberate, simulated_room

RATE, TELEPHONE_RATE = 16_000, 8_000
TELEPHONE_HZ = (300, 3400)
RT60_SECONDS = (0.3, 0.9)
VOICES = 5
SNR_DB = (5.0, 15.0)

Condition = Callable[[np.random.Generator, Samples], Samples]


def room(rng: np.random.Generator, samples: Samples) -> Samples:
    """The utterance in a room of its own, `(samples,)`."""
    response = simulated_room(rng, rng.uniform(*RT60_SECONDS), RATE)
    return limit_peak(reverberate(samples, response))


def babble(voices: Recordings) -> Condition:
    """Adds some voices of equal power; whose they are is drawn for every utterance."""

    def add(rng: np.random.Generator, samples: Samples) -> Samples:
        pieces = [voices.piece(rng, len(samples))[1] for _ in range(VOICES)]
        powers = [max(float(np.square(piece).mean()), 1e-12) for piece in pieces]
        crowd = sum(piece / np.sqrt(power) for piece, power in zip(pieces, powers, strict=True))
        return limit_peak(mix(samples, np.asarray(crowd, np.float32), rng.uniform(*SNR_DB)))

    return add


def telephone(rng: np.random.Generator, samples: Samples) -> Samples:
    """The band of a telephone at its rate, `(samples / 2,)`; nothing in it is random."""
    narrow = resample(samples, RATE, TELEPHONE_RATE)
    spectrum = np.fft.rfft(narrow)
    frequencies = np.fft.rfftfreq(len(narrow), 1 / TELEPHONE_RATE)
    low, high = TELEPHONE_HZ
    spectrum[(frequencies < low) | (frequencies > high)] = 0
    return limit_peak(np.fft.irfft(spectrum, len(narrow)).astype(np.float32))
