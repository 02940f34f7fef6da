"""Decoded audio, in memory where it fits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sparsify.progress import Track, silent
from sparsify.speech.audio import (
    Samples,
    crop_start,
    decode_audio,
    read_audio,
    read_crop,
)
from sparsify.speech.broken import BrokenFiles
from sparsify.speech.corpus import MIN_SECONDS, Corpus, Skipped, usable_corpus
from sparsify.speech.parallel import in_threads
from sparsify.speech.utterances import Utterance

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
        broken: What to do about files that turn out broken when they are decoded.
    """

    def __init__(
        self,
        sample_rate: int,
        recordings: Mapping[str, Recording],
        broken: BrokenFiles | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self.broken = BrokenFiles(len(recordings)) if broken is None else broken
        self._recordings = recordings

    def waveform(self, utterance: Utterance) -> Samples:
        """The whole utterance, `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: It is not in memory and its file cannot be used.
        """
        recording = self._recordings.get(utterance.key)
        if recording is None:
            return read_audio(utterance.source, self.sample_rate)
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
        piece = read_crop(utterance.source, position, samples, self.sample_rate)
        if piece is None:
            piece = _crop(read_audio(utterance.source, self.sample_rate), position, samples)
        return piece


def load_audio(
    corpus: Corpus,
    sample_rate: int,
    *,
    strict: bool = False,
    track: Track = silent,
    budget: int = MEMORY_BUDGET,
    neighbours: int = 1,
) -> tuple[Corpus, AudioCache]:
    """Decodes a corpus into memory, which also finds the files that only decoding can tell broken.

    A corpus beyond the budget is decoded piece by piece when it is needed; files that turn out
    broken then are reported to the `broken` of the audio.

    Args:
        corpus: What to decode.
        sample_rate: Wanted rate in Hz.
        strict: Raise for the first unusable file instead of leaving it out.
        track: Shows progress.
        budget: Most bytes to hold on this machine.
        neighbours: Processes on this machine that decode the same, each for itself.

    Returns:
        The corpus without the files that turned out unusable, which have joined its `skipped`, and
        the audio.

    Raises:
        SparsifyError: Fewer than two usable speakers are left, or (`strict`) a file is unusable.
    """
    needed = corpus.seconds * sample_rate * np.dtype(np.int16).itemsize
    if needed * neighbours > budget:
        logger.info(
            "%.1f h of speech in each of %d processes exceed the memory budget: decoding crops on"
            " demand",
            corpus.seconds / 3600,
            neighbours,
        )
        broken_files = BrokenFiles(len(corpus.utterances), strict=strict)
        return corpus, AudioCache(sample_rate, {}, broken_files)

    def decode(utterance: Utterance) -> Recording | str:
        samples = decode_audio(utterance.source, sample_rate)
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
            broken.append(Skipped(utterance.place, result))
        else:
            recordings[utterance.key] = result
    if not broken:
        return corpus, AudioCache(sample_rate, recordings)
    intact = np.array([u.key in recordings for u in corpus.utterances])
    usable = usable_corpus(
        corpus.utterances.where(intact),
        [*corpus.skipped, *broken],
        layout=corpus.layout,
        strict=strict,
    )
    return usable, AudioCache(sample_rate, recordings)


def to_int16(samples: Samples) -> Recording:
    """Quantises samples in [-1, 1]; exact for those that came from 16 bits."""
    scaled = np.round(samples * _FULL_SCALE)
    return np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def from_int16(recording: Recording) -> Samples:
    """Samples in [-1, 1) of a quantised recording."""
    return recording.astype(np.float32) / np.float32(_FULL_SCALE)


def _crop(waveform: npt.NDArray[N], position: float, samples: int) -> npt.NDArray[N]:
    start = crop_start(len(waveform), position, samples)
    if start is None:
        return np.resize(waveform, samples)
    return waveform[start : start + samples]
