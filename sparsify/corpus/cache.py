"""Decoded audio, in memory where it fits."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sparsify.audio.decode import Extent, decode_measured, measure_audio, warn_of_silence
from sparsify.audio.on_demand import OnDemand
from sparsify.audio.parallel import in_threads
from sparsify.audio.samples import Quantised, Samples, crop, from_int16, to_int16
from sparsify.corpus.broken import BrokenFiles
from sparsify.corpus.corpus import MIN_SECONDS, Corpus, Skipped, usable_corpus
from sparsify.corpus.utterances import Utterance
from sparsify.progress import Track, silent

logger = logging.getLogger(__name__)

MEMORY_BUDGET = 4 * 2**30


class AudioCache:
    """Waveforms of utterances: from memory if they are held there, else from their files.

    Both are the same to the last bit: 16-bit samples of the decoded, resampled and scaled whole.

    Args:
        sample_rate: Rate of all waveforms in Hz.
        recordings: 16-bit samples `(samples,)` by the key of the utterance.
        broken: What to do about files that turn out broken when they are decoded.
        extents: What decoding told of the other utterances, by their keys, where that is not what
            their headers say; None if nobody has looked.
    """

    def __init__(
        self,
        sample_rate: int,
        recordings: Mapping[str, Quantised],
        broken: BrokenFiles | None = None,
        extents: Mapping[str, Extent] | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self.broken = BrokenFiles(len(recordings)) if broken is None else broken
        self._recordings = recordings
        self._others = OnDemand(sample_rate, extents)

    def waveform(self, utterance: Utterance) -> Samples:
        """The whole utterance, `(samples,)` in [-1, 1].

        Raises:
            SparsifyError: It is not in memory and its file cannot be used.
        """
        recording = self._recordings.get(utterance.key)
        if recording is None:
            return self._others.waveform(utterance.source)
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
        if recording is None:
            return self._others.crop(utterance.key, utterance.source, position, samples)
        return from_int16(crop(recording, position, samples))

    def digest(self) -> str | None:
        """SHA-256 of the recordings in memory and their keys; `None` if none are."""
        if not self._recordings:
            return None
        digest = hashlib.sha256()
        for key, recording in sorted(self._recordings.items()):
            digest.update(f"{key}\0{len(recording)}\0".encode("utf-8", "surrogateescape"))
            digest.update(np.ascontiguousarray(recording).data)
        return digest.hexdigest()


def load_audio(
    corpus: Corpus,
    sample_rate: int,
    *,
    strict: bool = False,
    track: Track = silent,
    budget: int = MEMORY_BUDGET,
    neighbours: int = 1,
) -> tuple[Corpus, AudioCache]:
    """Decodes a corpus, which also finds the files that only decoding can tell broken.

    A corpus beyond the budget is not held but decoded piece by piece when it is needed; files that
    break later are reported to the `broken` of the audio. It is not decoded now if a manifest says
    that it has been (`data prepare --verify`). None of this changes the corpus or its audio.

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
        budget = 0
        if corpus.utterances.verified:
            broken_files = BrokenFiles(len(corpus.utterances), strict=strict)
            return corpus, AudioCache(sample_rate, {}, broken_files)
        logger.info(
            "all of it is decoded once to find broken files, which a manifest written by sparsify"
            " data prepare --verify makes unnecessary"
        )
    decoded = _Decoded(sample_rate, budget // neighbours)
    recordings = in_threads(decoded.look, corpus.utterances, track, "Decoding audio")
    for utterance, recording in zip(corpus.utterances, recordings, strict=True):
        decoded.hold(utterance, recording)
    warn_of_silence(decoded.silent)
    if decoded.broken:
        intact = np.array([u.key not in decoded.broken for u in corpus.utterances])
        corpus = usable_corpus(
            corpus.utterances.where(intact),
            [*corpus.skipped, *decoded.broken.values()],
            layout=corpus.layout,
            strict=strict,
        )
    broken_files = BrokenFiles(len(corpus.utterances), strict=strict)
    return corpus, AudioCache(sample_rate, decoded.recordings, broken_files, decoded.extents)


class _Decoded:
    """What decoding a corpus once leaves: recordings as far as they fit, and what else to know."""

    def __init__(self, sample_rate: int, budget: int) -> None:
        self._sample_rate = sample_rate
        self._budget = budget  # bytes; spent, nothing is held, whatever the durations promised
        self.recordings: dict[str, Quantised] = {}
        self.extents: dict[str, Extent] = {}
        self.broken: dict[str, Skipped] = {}
        self.silent: list[Path] = []

    def look(self, utterance: Utterance) -> tuple[Quantised | None, Extent] | str:
        """Decodes an utterance, in a thread."""
        if self._budget > 0:
            found = decode_measured(utterance.source, self._sample_rate)
            return found if isinstance(found, str) else (to_int16(found[0]), found[1])
        extent = measure_audio(utterance.source, self._sample_rate)
        return extent if isinstance(extent, str) else (None, extent)

    def hold(self, utterance: Utterance, found: tuple[Quantised | None, Extent] | str) -> None:
        """Keeps what is needed of an utterance."""
        if not isinstance(found, str) and found[1].samples < MIN_SECONDS * self._sample_rate:
            found = f"shorter than {MIN_SECONDS} s"
        if isinstance(found, str):
            self.broken[utterance.key] = Skipped(utterance.place, found)
            return
        recording, extent = found
        if extent.silent:
            self.silent.append(utterance.place)
        if not extent.as_announced:
            self.extents[utterance.key] = extent
        if recording is None:
            return
        self._budget -= recording.nbytes
        if self._budget >= 0:
            self.recordings[utterance.key] = recording
        else:
            self.recordings.clear()
