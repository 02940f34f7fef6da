"""Looks at a whole corpus once and writes what it found as a manifest."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsify.corpus.corpus import Corpus, usable_corpus
from sparsify.corpus.inspection import Inspection, inspect_audio
from sparsify.corpus.layouts import list_corpus, training_layout
from sparsify.corpus.manifest import check_suffix, write_manifest
from sparsify.errors import SparsifyError
from sparsify.files import check_unread, replacing
from sparsify.progress import Track, silent
from sparsify.recipe.words import CorpusLayout

_PERCENTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Prepared:
    """What a corpus turned out to hold.

    Attributes:
        corpus: The usable utterances, and what was left out.
        sample_rates: How many of the usable utterances have which rate in Hz.
        skipped_report: Where the files left out are listed with their reasons; None if there are
            none.
    """

    corpus: Corpus
    sample_rates: dict[int, int]
    skipped_report: Path | None

    @property
    def seconds(self) -> dict[str, float]:
        """Percentiles of the durations, from `p0`, the shortest, to `p100`, the longest."""
        values = np.percentile(self.corpus.utterances.seconds, _PERCENTILES)
        return {f"p{p}": float(value) for p, value in zip(_PERCENTILES, values, strict=True)}

    @property
    def reasons(self) -> dict[str, int]:
        """The most frequent reasons for which files were left out, and how often each was one."""
        return dict(Counter(skipped.reason for skipped in self.corpus.skipped).most_common(20))


def prepare(
    path: Path,
    output: Path,
    *,
    layout: CorpusLayout = "auto",
    verify: bool = False,
    strict: bool = False,
    track: Track = silent,
) -> Prepared:
    """Writes a manifest of the usable utterances, and beside it a list of the others.

    Args:
        path: A corpus of any layout.
        output: The manifest, .jsonl or .csv; what is left out goes to the same name + `.skipped`.
        layout: How the corpus is laid out; `auto` recognises it.
        verify: Decode every file to the end instead of reading headers.
        strict: Raise for the first unusable file instead of leaving it out.
        track: Shows progress.

    Raises:
        SparsifyError: There is no such corpus, it is malformed or has fewer than two usable
            speakers, `output` cannot be written, or (`strict`) a file is unusable.
    """
    check_suffix(output)
    check_unread(output, [path])
    if layout == "unlabelled":
        raise SparsifyError(
            f"'{path}': a manifest says who speaks, which nobody knows of unlabelled speech: train"
            " on the folder itself"
        )
    layout = training_layout(path, layout)
    listing = list_corpus(path, layout, track)
    with replacing(output) as temporary:  # refuses a wrong folder before the work
        found = inspect_audio(listing.utterances, track, everything=True, verify=verify)
        skipped = [*listing.skipped, *found.skipped]
        corpus = usable_corpus(found.utterances, skipped, layout=layout, strict=strict)
        write_manifest(corpus.utterances, temporary, track)
    return Prepared(corpus, _sample_rates(found, corpus), _report(corpus, output))


def _sample_rates(found: Inspection, corpus: Corpus) -> dict[int, int]:
    """How many have which rate; speakers that were left out are not counted."""
    speakers = {*corpus.speakers}
    stays = np.array([speaker in speakers for speaker in found.utterances.speakers])
    rates = found.sample_rates[stays[found.utterances.labels]]
    values, counts = np.unique(rates, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _report(corpus: Corpus, output: Path) -> Path | None:
    path = output.with_name(output.name + ".skipped")
    if not corpus.skipped:
        path.unlink(missing_ok=True)  # of an earlier time
        return None
    with replacing(path) as temporary:
        lines = (f"{skipped.path}\t{skipped.reason}" for skipped in corpus.skipped)
        one_each = (" ".join(line.splitlines()) + "\n" for line in lines)
        temporary.write_bytes(b"".join(map(os.fsencode, one_each)))
    return path
