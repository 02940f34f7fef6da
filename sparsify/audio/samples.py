"""Arrays of samples, quantised for storage and cut into crops."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.float32]
Quantised: TypeAlias = npt.NDArray[np.int16]
N = TypeVar("N", np.int16, np.float32)

_FULL_SCALE = 2**15


def to_int16(samples: Samples) -> Quantised:
    """Quantises samples in [-1, 1]; exact for those that came from 16 bits."""
    scaled = np.round(samples * _FULL_SCALE)
    return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def from_int16(quantised: Quantised) -> Samples:
    """Samples in [-1, 1) of quantised ones."""
    return quantised.astype(np.float32) / np.float32(_FULL_SCALE)


def crop_start(available: int, position: float, samples: int) -> int | None:
    """Where a crop begins; None where there is less than a crop.

    Args:
        available: Length of the whole.
        position: Which of the possible starts, in [0, 1).
        samples: Length of the crop.
    """
    return int(position * (available - samples + 1)) if available >= samples else None


def crop(whole: npt.NDArray[N], position: float, samples: int) -> npt.NDArray[N]:
    """A piece `(samples,)` of the whole, which is repeated where it is too short.

    Args:
        whole: What to take it from, `(available,)`.
        position: Which of the possible starts, in [0, 1).
        samples: Length of the crop.
    """
    start = crop_start(len(whole), position, samples)
    if start is None:
        return np.resize(whole, samples)
    return whole[start : start + samples]
