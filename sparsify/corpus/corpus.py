"""Which utterances there are, who speaks them, and what was left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsify.corpus.utterances import Utterance, Utterances
from sparsify.errors import SparsifyError
from sparsify.recipe.words import CorpusLayout
from sparsify.texts import shortened

MIN_SECONDS = 0.3
UNLABELLED: CorpusLayout = "unlabelled"
"""The layout of speech of which nobody knows who speaks."""


@dataclass(frozen=True)
class Skipped:
    """A file that is left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Listing:
    """Utterances as listed, that nobody has looked at yet, and what cannot be used.

    Durations are NaN where the list has none.
    """

    utterances: Utterances
    skipped: Sequence[Skipped] = ()


class Corpus:
    """Utterances in a fixed order, and what was left out of them.

    Args:
        utterances: The utterances; held as columns, whatever they are given as.
        skipped: What was left out.
        layout: How the utterances were found, as in `data.layout`.
    """

    def __init__(
        self,
        utterances: Iterable[Utterance],
        skipped: Iterable[Skipped] = (),
        layout: str = "folder",
    ) -> None:
        if not isinstance(utterances, Utterances):
            utterances = Utterances.of(utterances)
        self.utterances = utterances
        self.skipped = tuple(skipped)
        self.layout = layout

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Corpus):
            return NotImplemented
        return self.utterances == other.utterances and self.skipped == other.skipped

    __hash__ = None  # type: ignore[assignment]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, sorted; their positions are the class labels."""
        return self.utterances.speakers

    @property
    def named_speakers(self) -> int:
        """How many speakers there are; of unlabelled speech none is known."""
        return sum(map(bool, self.speakers))

    @cached_property
    def seconds(self) -> float:
        """Total duration."""
        return float(self.utterances.seconds.sum())

    def subset(self, speakers: Collection[str]) -> Corpus:
        """The utterances of some speakers; the record of skipped files stays with the whole."""
        wanted = np.isin(self.utterances.labels, self._labels(speakers))
        return Corpus(self.utterances.where(wanted), layout=self.layout)

    def _labels(self, speakers: Collection[str]) -> npt.NDArray[np.intp]:
        wanted = set(speakers)
        return np.flatnonzero([name in wanted for name in self.speakers])


def describe(corpus: Corpus) -> dict[str, Any]:
    """What a person wants to know of a corpus before training on it.

    Returns:
        `layout`, `speakers`, `utterances`, `hours` and the number `skipped`.
    """
    return {
        "layout": corpus.layout,
        "speakers": corpus.named_speakers,
        "utterances": len(corpus.utterances),
        "hours": corpus.seconds / 3600,
        "skipped": len(corpus.skipped),
    }


def usable_corpus(
    utterances: Iterable[Utterance],
    skipped: Sequence[Skipped],
    *,
    layout: str = "folder",
    strict: bool = False,
) -> Corpus:
    """The corpus of speakers with at least two utterances; the others join the skipped.

    Of unlabelled speech all utterances are taken.

    Raises:
        SparsifyError: Fewer than two speakers, or no unlabelled utterances, are left, or (`strict`)
            something is skipped.
    """
    table = Corpus(utterances).utterances
    least = 1 if layout == UNLABELLED else 2  # speakers, and utterances of each
    alone = table.counts[table.labels] < least
    left_out = [
        *skipped,
        *(
            Skipped(u.place, f"only one utterance of speaker {u.speaker}")
            for u in table.where(alone)
        ),
    ]
    if strict and left_out:
        raise SparsifyError(
            f"{left_out[0].path}: {left_out[0].reason}; mend or remove it, or do without strict"
            f" checking to skip it ({len(left_out)} in all)"
        )
    corpus = Corpus(table.where(~alone) if alone.any() else table, left_out, layout)
    if len(corpus.speakers) < least:
        first = f", the first {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        found = f"{len(corpus.speakers)} speaker(s) with two or more usable utterances, at least 2"
        if layout == UNLABELLED:
            found = "no usable utterance, at least 1"
        raise SparsifyError(
            f"{found} are needed: add speech or mend the files left out ({len(left_out)}{first})"
        )
    return corpus


def split_speakers(corpus: Corpus, validation_speakers: int, seed: int) -> tuple[Corpus, Corpus]:
    """Takes speakers out of the corpus for validation, chosen by the seed alone.

    Returns:
        The training part and the validation part.

    Raises:
        SparsifyError: Fewer than two speakers are left to train on.
    """
    speakers = corpus.speakers
    most = len(speakers) - 2
    if validation_speakers > most:
        advice = f"set data.validation_speakers to at most {most}, or add speakers"
        if most < 2:  # which the trials need
            advice = (
                "add speakers: at least 4 are needed, 2 to train on and 2 for trials; or give"
                " --validation-trials"
            )
        raise SparsifyError(
            f"{validation_speakers} validation speakers out of {len(speakers)}"
            f" ({shortened(', '.join(speakers), 60)}) leave fewer than 2 for training: {advice}"
        )
    order = np.random.default_rng(seed).permutation(len(speakers))
    chosen = [speakers[i] for i in order]
    return corpus.subset(chosen[validation_speakers:]), corpus.subset(chosen[:validation_speakers])
