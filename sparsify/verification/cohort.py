"""The cohort of other speakers: what mean subtraction and score normalisation are computed from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsify.corpus.layouts import list_speech
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.recipe.sections import FrontEnd
from sparsify.verification.embedding import Embedder, embeddings_or_errors, utterance_recordings
from sparsify.verification.embedding_tables import read_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cohort:
    """Embedded speech of many speakers.

    Attributes:
        embeddings: One row per utterance, `(U, D)`.
        speakers: The speaker of each utterance.
    """

    embeddings: NDArray[np.float32]
    speakers: tuple[str, ...]


def load_cohort(
    path: Path, embedder: Embedder, front_end: FrontEnd, model: str, *, track: Track = silent
) -> Cohort:
    """Embeds a corpus, every utterance of it, or reads the embeddings of one.

    Args:
        path: A corpus of any layout that training reads, or an `.npz` that `sparsify embed` made of
            one.
        embedder: Embeds the corpus.
        front_end: The features the embedder expects.
        model: Digest of the model, which an `.npz` must be of.
        track: Shows progress.

    Raises:
        SparsifyError: The corpus is missing, nothing in it can be embedded, the embeddings are of
            another model, or somebody's name is missing.
    """
    if path.suffix == ".npz":
        return _read(path, model)
    listing = list_speech(path, track)
    utterances = listing.utterances
    _check_named(utterances.keys, [u.speaker for u in utterances], path)
    recordings = utterance_recordings(utterances, front_end.sample_rate)
    for left_out in listing.skipped:
        logger.info("left out of the cohort: %s: %s", left_out.path, left_out.reason)
    rows, speakers, unusable = [], [], len(listing.skipped)
    found = embeddings_or_errors(
        embedder, recordings, front_end, track=track, description="Embedding the cohort"
    )
    for utterance, embedding in zip(utterances, found, strict=True):
        if isinstance(embedding, SparsifyError):
            logger.info("left out of the cohort: %s", embedding)
            unusable += 1
        else:
            rows.append(embedding)
            speakers.append(utterance.speaker)
    if unusable:
        logger.warning("%d utterances of the cohort '%s' could not be used", unusable, path)
    if not rows:
        raise SparsifyError(f"no utterance of the cohort '{path}' could be embedded")
    return Cohort(np.stack(rows), tuple(speakers))


def _read(path: Path, model: str) -> Cohort:
    table = read_table(path)
    if table.model != model:
        raise SparsifyError(
            f"the embeddings in '{path}' are of another model: make them anew with `sparsify embed`"
        )
    _check_named(table.keys, table.speakers, path)
    return Cohort(table.embeddings, table.speakers)


def _check_named(keys: Sequence[str], speakers: Sequence[str], path: Path) -> None:
    if not all(speakers):
        raise SparsifyError(
            f"'{path}' does not name the speaker of '{keys[speakers.index('')]}': take a folder"
            " with a folder per speaker, another corpus or a manifest"
        )
