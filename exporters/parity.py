"""Whether an exported network computes what the original computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsify.audio.features import ENERGIES
from sparsify.exporters.networks import Network
from sparsify.recipe.sections import FrontEnd

LENGTHS = (20, 98, 200, 351)  # frames
BATCHES = (1, 2, 5)
LOG_MEL = FrontEnd()
_QUIET = 1e-2  # the energy in a band of speech that is raised to -30 dB
SPOKEN = ((1, 0.21), (2, 1.003), (5, 2.0005), (1, 3.9001))  # sizes of batches, and seconds


@dataclass(frozen=True)
class Parity:
    """The largest differences found between two networks.

    Attributes:
        max_abs_error: Largest difference of an element of an embedding.
        cosine_min: Smallest cosine between two embeddings of the same utterance.
        passed: `max_abs_error` is at most `tolerance` times the largest element of the reference
            embeddings, and `cosine_min` at least `1 - tolerance`; never with NaN or infinities.
            `None` where there is no tolerance.
    """

    max_abs_error: float
    cosine_min: float
    passed: bool | None


def check_parity(
    reference: Network,
    candidate: Network,
    *,
    front_end: FrontEnd = LOG_MEL,
    tolerance: float | None = 1e-4,
    batches: Iterable[NDArray[np.float32]] | None = None,
) -> Parity:
    """Compares two networks on several lengths and batch sizes, and on silence.

    Args:
        reference: The original.
        candidate: What was exported.
        front_end: What the networks are given features of.
        tolerance: Largest accepted error, relative to the scale of the embeddings: the size of an
            embedding means nothing, so an absolute limit would be too strict or too lax. With none
            there is no verdict.
        batches: What to compare them on instead.
    """
    error, scale, cosine = 0.0, 0.0, 1.0
    for feats in made_up_batches(front_end) if batches is None else batches:
        expected = reference(feats).astype(np.float64)
        found = candidate(feats).astype(np.float64)
        with np.errstate(invalid="ignore"):
            # np.maximum and np.minimum keep NaN, which no comparison below accepts.
            error = float(np.maximum(error, np.abs(expected - found).max()))
            scale = float(np.maximum(scale, np.abs(expected).max()))
            cosine = float(np.minimum(cosine, _cosines(expected, found).min()))
    if tolerance is None:
        return Parity(error, cosine, None)
    passed = np.isfinite(scale) and error <= tolerance * scale and cosine >= 1 - tolerance
    return Parity(error, cosine, bool(passed))


def made_up_batches(
    front_end: FrontEnd, lengths: Sequence[int] = LENGTHS, sizes: Sequence[int] = BATCHES
) -> Iterator[NDArray[np.float32]]:
    """Noise with the spread of log-mel features, smooth in time, its mean removed; and silence.

    Of a front end that takes no logarithm, the energies that have these logarithms.

    Silence, features that are all zero, is where a variance over time may cancel.
    """
    rng, bins = np.random.default_rng(0), front_end.num_mel_bins
    for frames in lengths:
        yield np.zeros((1, frames, bins), dtype=np.float32)
        for batch in sizes:
            noise = rng.normal(scale=3.0, size=(batch, frames + 2, bins))
            smooth = (noise[:, :-2] + 2 * noise[:, 1:-1] + noise[:, 2:]) / 2.5
            logarithms = smooth - smooth.mean(axis=1, keepdims=True)
            energies = front_end.preset in ENERGIES
            yield (_QUIET * np.exp(logarithms) if energies else logarithms).astype(np.float32)


def waveform_batches(
    sample_rate: int, sizes: Sequence[tuple[int, float]] = SPOKEN
) -> Iterator[NDArray[np.float32]]:
    """Noise as coloured as speech, louder and softer, with a hum; and silence.

    The lengths, up to four seconds, are multiples of nothing.
    """
    rng = np.random.default_rng(0)
    for batch, seconds in sizes:
        samples = round(seconds * sample_rate)
        yield np.zeros((1, samples), dtype=np.float32)
        noise = rng.normal(size=(batch, samples + 2))
        coloured = noise[:, 2:] + 1.5 * noise[:, 1:-1] + 0.8 * noise[:, :-2]
        time = np.arange(samples) / sample_rate
        loudness = 0.03 * 10 ** (np.sin(2 * np.pi * 3 * time) - 0.5)
        yield (loudness * coloured + 0.01 * np.sin(2 * np.pi * 50 * time)).astype(np.float32)


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    products = np.sum(a * b, axis=1)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    return np.where(both_zero, 1.0, products / np.where(norms == 0, 1.0, norms))
