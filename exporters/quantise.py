"""What int8 activations take: speech that tells their ranges, and what the processor multiplies."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sparsify.audio.decode import read_audio, read_header
from sparsify.audio.features import Features, features_of
from sparsify.audio.samples import Samples
from sparsify.corpus.layouts import list_speech
from sparsify.corpus.utterances import Utterance
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.recipe.sections import FrontEnd

logger = logging.getLogger(__name__)

SECONDS = (0.5, 1, 2, 4)
"""The lengths that utterances are cut to, in turn."""
_UTTERANCES = 32
_LATEST = 30  # seconds into an utterance: what comes before is decoded, too, in some formats
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Quantisation:
    """How the layers of a network become int8.

    Attributes:
        features: Speech that the ranges of activations are measured on, `(T, bins)` each.
        waveforms: The samples that these were computed from, `(samples,)` in [-1, 1] each.
        reduce_range: Whether weights take seven bits, for processors that would overflow.
        track: Shows progress.
    """

    features: tuple[Features, ...]
    waveforms: tuple[Samples, ...]
    reduce_range: bool = False
    track: Track = silent


def quantisation(
    speech: Path, front_end: FrontEnd, *, reduce_range: bool = False, track: Track = silent
) -> Quantisation:
    """How to quantise a network with the speech at a path.

    Args:
        speech: Whatever `sparsify embed` reads; utterances are taken from all over it, and no more
            of each is decoded than it takes.
        front_end: The features that the network expects.
        reduce_range: Whether weights take seven bits even if this processor does not need it.
        track: Shows progress.

    Raises:
        SparsifyError: There is no speech that can be read.
    """
    pieces = list(_read(speech, front_end, track))
    if not pieces:
        raise SparsifyError(
            f"--quantize-audio: no utterance in '{speech}' could be used: give speech such as that"
            " which the network was trained on"
        )
    features, waveforms = zip(*pieces, strict=True)
    return Quantisation(features, waveforms, reduce_range or overflows(), track)


def overflows() -> bool:
    """Whether this processor adds products of eight-bit numbers in sixteen bits.

    x86 without VNNI does: two products of 255 and 127 are more than 2¹⁵ and saturate.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    flags = _CPU_INFO.read_text("utf-8", "replace").split() if _CPU_INFO.is_file() else []
    return not {"avx512_vnni", "avx_vnni"} & set(flags)


def _read(speech: Path, front_end: FrontEnd, track: Track) -> Iterator[tuple[Features, Samples]]:
    """Pieces of utterances from all over the speech: their features, and their samples."""
    utterances = list_speech(speech, track).utterances
    places = np.unique(np.linspace(0, max(len(utterances) - 1, 0), _UTTERANCES).astype(int))
    chosen = [utterances[place] for place in places[: len(utterances)].tolist()]
    features_from = features_of(front_end)
    description = "Reading speech to quantise with"
    for number, utterance in enumerate(track(chosen, description, len(chosen))):
        try:
            samples = _piece(utterance, SECONDS[number % len(SECONDS)], front_end.sample_rate)
            yield features_from(samples), samples
        except SparsifyError as error:
            logger.warning("not used to quantise: %s: %s", utterance.key, error)


def _piece(utterance: Utterance, seconds: float, sample_rate: int) -> Samples:
    """Some seconds from the middle of an utterance, of a long one from its first minute."""
    source = utterance.source
    header = read_header(source)
    if isinstance(header, str):
        raise SparsifyError(header)
    if header.seconds > seconds:
        start = source.start + min((header.seconds - seconds) / 2, _LATEST)
        source = replace(source, start=start, end=start + seconds)
    return read_audio(source, sample_rate)
