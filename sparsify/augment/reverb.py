"""Rooms: impulse responses, simulated, and what they do to speech."""

from __future__ import annotations

import numpy as np

from sparsify.audio.samples import Samples

_DELAY_SECONDS = (0.002, 0.02)
_DIRECT_DB = (0.0, 12.0)


def simulated_room(rng: np.random.Generator, rt60: float, sample_rate: int) -> Samples:
    """The impulse response of a diffuse room: direct sound, then exponentially decaying noise.

    The envelope of the noise falls by 60 dB in `rt60` seconds (Polack's model; Jot, Cerveau &
    Warusfel 1997). It begins 2 to 20 ms after the direct sound, which is 0 to 12 dB stronger than
    all of the noise together.

    Args:
        rng: Source of every random choice.
        rt60: Reverberation time in seconds.
        sample_rate: In Hz.

    Returns:
        `(samples,)`, beginning with the direct sound and ending where 60 dB are lost.
    """
    delay = round(rng.uniform(*_DELAY_SECONDS) * sample_rate)
    direct_db = rng.uniform(*_DIRECT_DB)
    length = max(round(rt60 * sample_rate), 1)
    decay = 10.0 ** (-3 * np.arange(length) / length)
    tail = rng.standard_normal(length) * decay
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.square(tail).sum())
    response = np.zeros(delay + length, dtype=np.float32)
    response[delay:] = tail
    response[0] += 1
    return response


def reverberate(samples: Samples, response: Samples) -> Samples:
    """Convolves samples with an impulse response, keeping their length and their power."""
    size = 1 << (len(samples) + len(response) - 2).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    wet = np.fft.irfft(spectrum, size)[: len(samples)]
    power = np.square(wet).mean()
    if power == 0:
        return samples
    return (wet * np.sqrt(np.square(samples, dtype=np.float64).mean() / power)).astype(np.float32)
