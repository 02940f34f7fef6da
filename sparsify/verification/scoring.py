"""Scores of trials from embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 15  # trials at a time: bounds the memory, and stays near the cache


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
    rows = embeddings.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms == 0, 1, norms)
    scores = np.empty(len(enrolment))
    for start in range(0, len(scores), _BLOCK):
        block = slice(start, start + _BLOCK)
        np.einsum("nd,nd->n", rows[enrolment[block]], rows[test[block]], out=scores[block])
    return scores
