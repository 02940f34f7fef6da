"""The cohort of other speakers: what mean subtraction and score normalisation are computed from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.recipe import FrontEnd
from sparsify.speech.layouts import load_corpus
from sparsify.verification.embedding import Embedder, corpus_recordings, embeddings_or_errors
from sparsify.verification.tables import read_table

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
    """Embeds a corpus, or reads the embeddings of one.

    Args:
        path: A corpus as for training, or an `.npz` that `sparsify embed` made of one.
        embedder: Embeds the corpus.
        front_end: The features the embedder expects.
        model: Digest of the model, which an `.npz` must be of.
        track: Shows progress.

    Raises:
        SparsifyError: The corpus is missing or too small, or the embeddings are of another model
            or do not name speakers.
    """
    if path.suffix == ".npz":
        return _read(path, model)
    corpus = load_corpus(path, track=track)
    recordings = corpus_recordings(corpus, front_end.sample_rate)
    rows, speakers, unusable = [], [], len(corpus.skipped)
    found = embeddings_or_errors(
        embedder, recordings, front_end, track=track, description="Embedding the cohort"
    )
    for utterance, embedding in zip(corpus.utterances, found, strict=True):
        if isinstance(embedding, SparsifyError):
            logger.info("left out of the cohort: %s", embedding)
            unusable += 1
        else:
            rows.append(embedding)
            speakers.append(utterance.speaker)
    if unusable:
        logger.warning("%d files of the cohort '%s' could not be used", unusable, path)
    if not rows:
        raise SparsifyError(f"no utterance of the cohort '{path}' could be embedded")
    return Cohort(np.stack(rows), tuple(speakers))


def _read(path: Path, model: str) -> Cohort:
    table = read_table(path)
    if table.model != model:
        raise SparsifyError(
            f"the embeddings in '{path}' are of another model: make them anew with `sparsify embed`"
        )
    speakers = [key.rpartition("/")[0].partition("/")[0] for key in table.keys]
    if not all(speakers):
        raise SparsifyError(
            f"'{path}' does not name the speaker of '{table.keys[speakers.index('')]}': embed a"
            " folder that holds a folder per speaker"
        )
    return Cohort(table.embeddings, tuple(speakers))
