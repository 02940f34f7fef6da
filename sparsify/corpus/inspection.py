"""Looks at the files of many utterances: which are usable, and how long they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sparsify.audio.decode import Header, measure_audio, read_header, warn_of_silence
from sparsify.audio.parallel import in_threads
from sparsify.corpus.corpus import MIN_SECONDS, Skipped
from sparsify.corpus.utterances import Utterances
from sparsify.progress import Track


@dataclass(frozen=True)
class Inspection:
    """Utterances that are usable as far as somebody looked, and what looking found.

    Attributes:
        utterances: Those that are usable, with their durations.
        skipped: The others.
        sample_rates: Their rates in Hz, `(N,)`; 0 where the file was not opened.
    """

    utterances: Utterances
    skipped: Sequence[Skipped]
    sample_rates: npt.NDArray[np.int32]


def inspect_audio(
    utterances: Utterances, track: Track, *, everything: bool = False, verify: bool = False
) -> Inspection:
    """Reads the headers of the utterances whose duration is unknown.

    Args:
        utterances: What to look at.
        track: Shows progress.
        everything: Look also at those whose duration is known.
        verify: Decode every utterance that is looked at.
    """
    seconds = utterances.seconds.copy()
    unknown = np.flatnonzero(np.isnan(seconds) | everything)
    rates = np.zeros(len(seconds), dtype=np.int32)
    reasons: dict[int, str] = {}
    silent: list[int] = []

    def look(place: int) -> Header | str:
        header = read_header(utterances[place].source)
        if isinstance(header, str) or not verify:
            return header
        extent = measure_audio(utterances[place].source, None)
        if isinstance(extent, str):
            return extent
        if extent.silent:
            silent.append(place)
        return Header(extent.frames / header.sample_rate, header.sample_rate)

    if len(unknown):
        title = "Decoding audio" if verify else "Reading audio headers"
        found = in_threads(
            look, range(len(seconds)) if everything else unknown.tolist(), track, title
        )
        for place, header in zip(unknown.tolist(), found, strict=True):
            if isinstance(header, str):
                reasons[place] = header
            else:
                seconds[place] = header.seconds
                rates[place] = header.sample_rate
    for place in np.flatnonzero(seconds < MIN_SECONDS).tolist():
        reasons.setdefault(place, f"shorter than {MIN_SECONDS} s")
    skipped = [Skipped(utterances[place].place, reasons[place]) for place in sorted(reasons)]
    warn_of_silence(sorted(utterances[place].place for place in silent if place not in reasons))
    verified = utterances.verified or (everything and verify)
    inspected = replace(utterances, seconds=seconds, verified=verified)
    if reasons:
        usable: npt.NDArray[np.bool_] = np.ones(len(seconds), dtype=bool)
        usable[list(reasons)] = False
        inspected, rates = inspected.where(usable), rates[usable]
    return Inspection(inspected, skipped, rates)
