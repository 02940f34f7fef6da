"""The front end as a section of a native model's blob; `c/front_end.h` says how it is laid out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsify.audio.features import (
    ENERGIES,
    FULL_SCALE,
    PREEMPHASIS,
    SPEECHBRAIN_FLOOR,
    SPEECHBRAIN_RANGE_DB,
    TFMEL_FLOOR,
    Filterbank,
)
from sparsify.errors import SparsifyError
from sparsify.recipe.sections import FrontEnd

_HEADER_WORDS = 23
_RADICES = (4, 2, 5)

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


def front_end_section(front_end: FrontEnd) -> bytes:
    """A front end for `front_end_features` in C.

    Its window and filters are those of `Filterbank`, which decides on every number.

    Args:
        front_end: Any that `Filterbank` accepts.

    Returns:
        Words of 32 bits, little-endian.

    Raises:
        SparsifyError: The sample rate is too high for SpeechBrain's transform, or the preset is
            `resemblyzer`, which takes no logarithms.
    """
    if front_end.preset in ENERGIES:
        raise SparsifyError(
            f"the native engine does not compute the front end '{front_end.preset}': export"
            " --format onnx instead"
        )
    bank = Filterbank(front_end)
    points = bank.fft_length // 2
    radices = _radices(points)
    spans, weights = _sparse(bank.filters.numpy())
    tables: list[Ints | Floats] = [
        bank.window.numpy() * np.float32(FULL_SCALE if _is_kaldi(front_end) else 1),
        np.array(radices, np.int32),
        _twiddles(radices),
        _unit_roots(np.arange(points // 2 + 1), bank.fft_length),
        _places(radices),
        spans,
        weights * np.float32(0.25),  # the power spectrum in C is four times that of the frame
    ]
    sizes = [_HEADER_WORDS, *(table.size for table in tables)]
    positions = np.cumsum(sizes)[:-1]
    header = [*_header(bank, len(radices)), np.array(positions, np.int32)]
    words = [np.ravel(table).view(np.int32) for table in [*header, *tables]]
    return np.concatenate(words).astype("<i4").tobytes()


def _header(bank: Filterbank, stages: int) -> list[Ints | Floats]:
    length, shift, bins = bank.length, bank.shift, bank.front_end.num_mel_bins
    kaldi, levelled = _is_kaldi(bank.front_end), bank.front_end.preset == "tfmel"
    mirrored = kaldi and not bank.snip_edges
    if mirrored:
        first, extra = shift // 2 - length // 2, shift // 2
    elif kaldi:
        first, extra = 0, shift - length
    elif levelled:
        first, extra = -(shift // 2), 2 * (shift // 2) + shift - length
    else:
        # torch.stft begins half a transform before the audio, and puts a shorter window in the
        # middle of it.
        first, extra = (bank.fft_length - length) // 2 - bank.fft_length // 2, shift
    points = bank.fft_length // 2
    whole = [length, shift, first, extra, mirrored, kaldi, levelled, points, stages, bins]
    if kaldi:
        real = [PREEMPHASIS, float(np.finfo(np.float32).eps), math.inf, 0, 1, math.inf]
    elif levelled:
        real = [PREEMPHASIS, TFMEL_FLOOR, 1 / TFMEL_FLOOR, TFMEL_FLOOR, 1, math.inf]
    else:
        real = [0, SPEECHBRAIN_FLOOR, math.inf, 0, 10 / math.log(10), SPEECHBRAIN_RANGE_DB]
    return [np.array(whole, np.int32), np.array(real, np.float32)]


def _is_kaldi(front_end: FrontEnd) -> bool:
    return front_end.preset in ("sherpa", "wespeaker")


def _radices(points: int) -> list[int]:
    """Factors of the length of a transform, the larger ones of a power of two first."""
    found = []
    for radix in _RADICES:
        while points % radix == 0:
            found.append(radix)
            points //= radix
    return found


def _unit_roots(numerators: ArrayLike, denominator: int) -> Floats:
    """`exp(-2πi n/d)` as pairs of real and imaginary part, `(*n, 2)`."""
    angles = np.asarray(numerators) * (-2 * math.pi / denominator)
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)


def _twiddles(radices: list[int]) -> Floats:
    """What each stage of a transform decimated in frequency multiplies its results by."""
    size, stages = math.prod(radices), []
    for radix in radices:
        products = np.arange(size // radix)[:, None] * np.arange(1, radix)
        stages.append(_unit_roots(products, size).ravel())
        size //= radix
    return np.concatenate(stages)


def _places(radices: list[int]) -> Ints:
    """Where the transform leaves each frequency, in vectors; the Nyquist frequency is vector 1.

    The digits of a frequency in the mixed base of the radices are those of its place, reversed.
    """
    points = math.prod(radices)
    rest, size, places = np.arange(points), points, np.zeros(points, np.int32)
    for radix in radices:
        size //= radix
        places += (rest % radix * size).astype(np.int32)
        rest //= radix
    return np.append(2 * places, 1).astype(np.int32)


def _sparse(filters: Floats) -> tuple[Ints, Floats]:
    """First frequency and length `(bins, 2)` of what is not zero of each filter, and that."""
    spans, weights = [], [np.empty(0, np.float32)]
    for column in filters.T:
        used = np.flatnonzero(column)
        begin, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        spans.append((begin, end - begin))
        weights.append(column[begin:end])
    return np.array(spans, np.int32), np.concatenate(weights)
