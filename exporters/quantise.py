"""What int8 activations take: speech that tells their ranges, and what the processor multiplies."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsify.audio.features import Features
from sparsify.corpus.layouts import list_speech
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.embedding import audio_features, utterance_recordings

logger = logging.getLogger(__name__)

FRAMES = (50, 100, 200, 400)
"""The lengths that utterances are cut to, in turn; 100 frames are a second."""
_UTTERANCES = 32
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Quantisation:
    """How the layers of a network become int8.

    Attributes:
        features: Speech that the ranges of activations are measured on, `(T, bins)` each.
        reduce_range: Whether weights take seven bits, for processors that would overflow.
        track: Shows progress.
    """

    features: tuple[Features, ...]
    reduce_range: bool = False
    track: Track = silent


def quantisation(
    speech: Path, front_end: FrontEnd, *, reduce_range: bool = False, track: Track = silent
) -> Quantisation:
    """How to quantise a network with the speech at a path.

    Args:
        speech: Whatever `sparsify embed` reads; utterances are taken from all over it.
        front_end: The features that the network expects.
        reduce_range: Whether weights take seven bits even if this processor does not need it.
        track: Shows progress.

    Raises:
        SparsifyError: There is no speech that can be read.
    """
    features = tuple(_cut(list(_read(speech, front_end, track))))
    if not features:
        raise SparsifyError(
            f"--quantize-audio: no utterance in '{speech}' could be used: give speech such as that"
            " which the network was trained on"
        )
    return Quantisation(features, reduce_range or overflows(), track)


def overflows() -> bool:
    """Whether this processor adds products of eight-bit numbers in sixteen bits.

    x86 without VNNI does: two products of 255 and 127 are more than 2¹⁵ and saturate.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    flags = _CPU_INFO.read_text("utf-8", "replace").split() if _CPU_INFO.is_file() else []
    return not {"avx512_vnni", "avx_vnni"} & set(flags)


def _read(speech: Path, front_end: FrontEnd, track: Track) -> Iterator[Features]:
    utterances = list_speech(speech, track).utterances
    places = np.unique(np.linspace(0, max(len(utterances) - 1, 0), _UTTERANCES).astype(int))
    chosen = [utterances[place] for place in places[: len(utterances)].tolist()]
    recordings = utterance_recordings(chosen, front_end.sample_rate)
    reading = audio_features(
        recordings, front_end, track=track, description="Reading speech to quantise with"
    )
    for found in reading:
        if isinstance(found, SparsifyError):
            logger.warning("not used to quantise: %s", found)
        else:
            yield found


def _cut(utterances: list[Features]) -> Iterator[Features]:
    """The middle of each utterance."""
    for number, features in enumerate(utterances):
        length = min(FRAMES[number % len(FRAMES)], len(features))
        start = (len(features) - length) // 2
        yield np.ascontiguousarray(features[start : start + length])
