"""Scores of trials from embeddings: cosine, after mean subtraction, with adaptive s-norm."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.audio.parallel import available_cores
from sparsify.defaults import TOP_N
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.verification.trials import Trials

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float64]

_BLOCK = 1 << 15  # trials at a time: bounds the memory, and stays near the cache
_COHORT_BLOCK = 1 << 10  # utterances at a time against the whole cohort
_SMALLEST_DEVIATION = 1e-8  # of cohort scores that are all equal, as for an embedding of zeros


def cosine_scores(
    embeddings: NDArray[Any], enrolment: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosine similarity of each trial, in [-1, 1], accumulated in float64.

    Args:
        embeddings: One row per utterance, `(U, D)`.
        enrolment: Row of the enrolment utterance of each trial, `(N,)`.
        test: Row of the test utterance of each trial, `(N,)`.

    Returns:
        Scores `(N,)`; 0 where an embedding is exactly zero, which has no direction.
    """
    rows = unit_length(embeddings)
    scores = np.empty(len(enrolment))
    for start in range(0, len(scores), _BLOCK):
        block = slice(start, start + _BLOCK)
        np.einsum("nd,nd->n", rows[enrolment[block]], rows[test[block]], out=scores[block])
    return scores


@dataclass(frozen=True)
class Scoring:
    """How embeddings become scores.

    The mean is subtracted from every embedding, every embedding is scaled to length one, and those
    of a model's enrolment utterances are averaged; the score is the cosine of model and test.

    With a cohort follows adaptive s-norm (AS-norm; symmetric normalisation of Cumani et al. 2011
    over the nearest cohort speakers as in Matejka et al. 2017, "AS-norm1"): with `s(e, t)` the
    score, `E` the `top_n` cohort speakers that score highest against the enrolment `e` and `T`
    those against the test `t`,

        ½·[(s(e, t) − mean s(e, E)) / std s(e, E) + (s(e, t) − mean s(t, T)) / std s(t, T)]

    where std divides by the number of scores.

    Attributes:
        mean: Mean embedding to subtract, `(D,)`; nothing is subtracted without.
        cohort: Unit-length embeddings of the cohort's speakers, `(K, D)`, mean subtracted; no
            AS-norm without.
        top_n: Cohort speakers that count; all of them if there are fewer.
    """

    mean: Vectors | None = None
    cohort: Vectors | None = None
    top_n: int = TOP_N

    def __post_init__(self) -> None:
        if self.cohort is None:
            return
        if len(self.cohort) < 2 or self.top_n < 2:
            raise SparsifyError(
                "AS-norm needs two or more cohort speakers, and as many that count: the cohort has"
                f" {len(self.cohort)}, and the nearest {self.top_n} count"
            )

    def centred(self, embeddings: NDArray[Any]) -> Vectors:
        """Embeddings `(U, D)` without the mean, of length one.

        Raises:
            SparsifyError: The mean is of another dimension.
        """
        if self.mean is None:
            return unit_length(embeddings)
        if embeddings.shape[-1:] != self.mean.shape:
            raise SparsifyError(
                f"the mean to subtract has {len(self.mean)} dimensions and the embeddings"
                f" {embeddings.shape[-1]}: they are of different models"
            )
        return unit_length(embeddings.astype(np.float64) - self.mean)

    def scores(
        self, embeddings: NDArray[Any], trials: Trials, *, track: Track = silent
    ) -> NDArray[np.float64]:
        """Scores `(N,)` of trials.

        Args:
            embeddings: One row per utterance of the trials, `(U, D)`.
            trials: What is compared with what.
            track: Shows progress of the comparison with a cohort.

        Raises:
            SparsifyError: The embeddings are not finite, or the mean or the cohort is of another
                dimension.
        """
        if not np.isfinite(embeddings).all():
            wrong = int(np.flatnonzero(~np.isfinite(embeddings).all(axis=1))[0])
            raise SparsifyError(
                f"the embedding of '{trials.utterances[wrong]}' is not finite: the model gives NaN"
                " or infinity"
            )
        rows = self.centred(embeddings)
        if trials.models:
            rows = np.concatenate([rows, average(rows, trials.models)])
        scores = cosine_scores(rows, trials.enrolment, trials.test)
        if self.cohort is None:
            return scores
        mean, deviation = self._cohort_statistics(rows, track)
        for start in range(0, len(scores), _BLOCK):
            block = slice(start, start + _BLOCK)
            scores[block] = 0.5 * sum(
                (scores[block] - mean[side[block]]) / deviation[side[block]]
                for side in (trials.enrolment, trials.test)
            )
        return scores

    def pair_score(self, enrolment: NDArray[Any], test: NDArray[Any]) -> float:
        """The score of two embeddings `(D,)`, as `scores` gives it.

        Raises:
            SparsifyError: As `scores`.
        """
        pair = Trials(("enrolment", "test"), np.array([0]), np.array([1]), np.array([True]))
        return float(self.scores(np.stack([enrolment, test]), pair)[0])

    def _cohort_statistics(self, rows: Vectors, track: Track) -> tuple[Vectors, Vectors]:
        """Mean and standard deviation `(R,)` of each row's highest scores against the cohort."""
        assert self.cohort is not None
        if rows.shape[1] != self.cohort.shape[1]:
            raise SparsifyError(
                f"the cohort has {self.cohort.shape[1]} dimensions and the embeddings"
                f" {rows.shape[1]}: they are of different models"
            )
        columns, first = self.cohort.T, max(0, len(self.cohort) - self.top_n)

        def statistics(block: Vectors) -> tuple[Vectors, Vectors]:
            highest = np.partition(block @ columns, first, axis=1)[:, first:]
            return highest.mean(axis=1), highest.std(axis=1)

        lengths = unit_length(rows)  # the average of a model's utterances is shorter than one
        starts = range(0, len(rows), _COHORT_BLOCK)
        blocks = (lengths[start : start + _COHORT_BLOCK] for start in starts)
        with ThreadPoolExecutor(available_cores()) as executor:
            found = executor.map(statistics, blocks)
            parts = list(track(found, "Comparing with the cohort", len(starts)))
        mean, deviation = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, np.maximum(deviation, _SMALLEST_DEVIATION)


def scoring_with_cohort(
    embeddings: NDArray[Any],
    speakers: Sequence[str],
    *,
    mean: Vectors | None = None,
    subtract_mean: bool = False,
    as_norm: bool = False,
    top_n: int = TOP_N,
) -> Scoring:
    """The scoring that a cohort gives.

    Args:
        embeddings: One row per utterance of the cohort, `(U, D)`.
        speakers: The speaker of each utterance.
        mean: Mean to subtract; that of the cohort's utterances if `subtract_mean` without it.
        subtract_mean: Subtract the mean.
        as_norm: Normalise by the cohort's speakers, each the average of its utterances after mean
            subtraction and scaling to length one.
        top_n: Cohort speakers that count.

    Raises:
        SparsifyError: The cohort has too few speakers, or an embedding is not finite.
    """
    if not np.isfinite(embeddings).all():
        raise SparsifyError("an embedding of the cohort is not finite: the model gives NaN")
    if subtract_mean and mean is None:
        mean = embeddings.mean(axis=0, dtype=np.float64)
    scoring = Scoring(mean if subtract_mean else None)
    if not as_norm:
        return scoring
    members: dict[str, list[int]] = {}
    for row, speaker in enumerate(speakers):
        members.setdefault(speaker, []).append(row)
    if len(members) < top_n:
        logger.warning(
            "the cohort has %d speakers: AS-norm uses all of them instead of the top %d",
            len(members),
            top_n,
        )
    averages = average(scoring.centred(embeddings), list(members.values()))
    return Scoring(scoring.mean, unit_length(averages), top_n)


def average(rows: Vectors, groups: Sequence[Sequence[int]]) -> Vectors:
    """The mean of each group of rows, `(G, D)`."""
    return np.stack([rows[list(group)].mean(axis=0) for group in groups])


def unit_length(embeddings: NDArray[Any]) -> Vectors:
    """Rows scaled to length one, in float64; rows of zeros, which have no direction, stay so."""
    rows = embeddings.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms == 0, 1, norms)
