"""Decoded audio, in memory where it fits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import soundfile as sf

from sparsify.progress import Track, silent
from sparsify.speech.corpus import (
    MIN_SECONDS,
    Corpus,
    Samples,
    Skipped,
    Utterance,
    decode_audio,
    full_scale,
    in_threads,
    read_audio,
    usable_corpus,
)

logger = logging.getLogger(__name__)

Recording = npt.NDArray[np.int16]
N = TypeVar("N", np.int16, np.float32)

MEMORY_BUDGET = 4 * 2**30
_FULL_SCALE = 2**15


class AudioCache:
    """Waveforms of utterances: from memory if they are held there, else from their files.

    Args:
        sample_rate: Rate of all waveforms in Hz.
        recordings: 16-bit samples `(samples,)` by the key of the utterance.
    """

    def __init__(self, sample_rate: int, recordings: Mapping[str, Recording]) -> None:
        self.sample_rate = sample_rate
        self._recordings = recordings

    def waveform(self, utterance: Utterance) -> Samples:
        """The whole utterance, `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: It is not in memory and its file cannot be used.
        """
        recording = self._recordings.get(utterance.key)
        if recording is None:
            return read_audio(utterance.path, self.sample_rate)
        return from_int16(recording)

    def crop(self, utterance: Utterance, position: float, samples: int) -> Samples:
        """A piece of the utterance; one that is too short is repeated.

        Args:
            utterance: Where from.
            position: Which of the possible starts, from 0 (the first) to just under 1 (the last).
            samples: Length of the piece.

        Returns:
            `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: It is not in memory and its file cannot be used.
        """
        recording = self._recordings.get(utterance.key)
        if recording is not None:
            return from_int16(_crop(recording, position, samples))
        piece = _read_crop(utterance, position, samples, self.sample_rate)
        if piece is None:
            piece = _crop(read_audio(utterance.path, self.sample_rate), position, samples)
        return piece


def load_audio(
    corpus: Corpus,
    sample_rate: int,
    *,
    strict: bool = False,
    track: Track = silent,
    budget: int = MEMORY_BUDGET,
) -> tuple[Corpus, AudioCache]:
    """Decodes a corpus into memory, which also finds the files that only decoding can tell broken.

    A corpus beyond the budget is decoded piece by piece when it is needed.

    Args:
        corpus: What to decode.
        sample_rate: Wanted rate in Hz.
        strict: Raise for the first unusable file instead of leaving it out.
        track: Shows progress.
        budget: Most bytes to hold.

    Returns:
        The corpus without the files that turned out unusable, which have joined its `skipped`, and
        the audio.

    Raises:
        SparsifyError: Fewer than two usable speakers are left, or (`strict`) a file is unusable.
    """
    needed = corpus.seconds * sample_rate * np.dtype(np.int16).itemsize
    if needed > budget:
        logger.info(
            "%.1f h of speech exceed the memory budget: decoding crops on demand",
            corpus.seconds / 3600,
        )
        return corpus, AudioCache(sample_rate, {})

    def decode(utterance: Utterance) -> Recording | str:
        samples = decode_audio(utterance.path, sample_rate)
        if isinstance(samples, str):
            return samples
        if len(samples) < MIN_SECONDS * sample_rate:
            return f"shorter than {MIN_SECONDS} s"
        return to_int16(samples)

    recordings: dict[str, Recording] = {}
    broken: list[Skipped] = []
    decoded = in_threads(decode, corpus.utterances, track, "Decoding audio")
    for utterance, result in zip(corpus.utterances, decoded, strict=True):
        if isinstance(result, str):
            broken.append(Skipped(utterance.path, result))
        else:
            recordings[utterance.key] = result
    if not broken:
        return corpus, AudioCache(sample_rate, recordings)
    intact = (u for u in corpus.utterances if u.key in recordings)
    usable = usable_corpus(intact, [*corpus.skipped, *broken], strict=strict)
    return usable, AudioCache(sample_rate, recordings)


def to_int16(samples: Samples) -> Recording:
    """Quantises samples in [-1, 1]; exact for those that came from 16 bits."""
    scaled = np.round(samples * _FULL_SCALE)
    return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def from_int16(recording: Recording) -> Samples:
    """Samples in [-1, 1) of a quantised recording."""
    return recording.astype(np.float32) / np.float32(_FULL_SCALE)


def _start(available: int, position: float, samples: int) -> int:
    return int(position * (available - samples + 1))


def _crop(waveform: npt.NDArray[N], position: float, samples: int) -> npt.NDArray[N]:
    if len(waveform) < samples:
        return np.resize(waveform, samples)
    start = _start(len(waveform), position, samples)
    return waveform[start : start + samples]


def _read_crop(
    utterance: Utterance, position: float, samples: int, sample_rate: int
) -> Samples | None:
    """Reads no more than the piece; None where only reading the whole file can tell more."""
    try:
        with sf.SoundFile(utterance.path) as file:
            if file.samplerate != sample_rate or file.frames < samples:
                return None
            file.seek(_start(file.frames, position, samples))
            channels = file.read(samples, dtype="float32", always_2d=True)
    except (sf.SoundFileError, OSError, UnicodeError):
        return None
    if len(channels) != samples or not np.isfinite(channels).all():
        return None
    return full_scale(channels.mean(axis=1, dtype=np.float32))
