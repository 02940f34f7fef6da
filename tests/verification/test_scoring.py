"""Cosine scores against a plain loop with exactly rounded sums."""

import math

import numpy as np
import pytest

from sparsify.verification import scoring
from sparsify.verification.scoring import cosine_scores


def cosine(a, b):
    dot = math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    norms = (math.fsum(float(x) ** 2 for x in v) for v in (a, b))
    return dot / math.sqrt(math.prod(norms))


@pytest.mark.parametrize("block", [1, 7, 1 << 15])
def test_scores_equal_a_plain_loop_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(scoring, "_BLOCK", block)
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((9, 32)).astype(np.float32)
    enrolment, test = rng.integers(0, 9, (2, 50))
    expected = [cosine(embeddings[i], embeddings[j]) for i, j in zip(enrolment, test, strict=True)]
    np.testing.assert_allclose(cosine_scores(embeddings, enrolment, test), expected, atol=1e-14)


def test_lengths_of_embeddings_do_not_matter():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((5, 8)).astype(np.float32)
    scaled = embeddings * np.float32(2.0) ** np.arange(-40, 60, 20)[:, None].astype(np.float32)
    enrolment, test = np.arange(4), np.arange(1, 5)
    np.testing.assert_array_equal(
        cosine_scores(scaled, enrolment, test), cosine_scores(embeddings, enrolment, test)
    )


def test_a_zero_embedding_scores_zero_and_nan_stays_visible():
    embeddings = np.array([[0, 0], [1, 0], [np.nan, 1]], dtype=np.float32)
    scores = cosine_scores(embeddings, np.array([0, 1, 1]), np.array([1, 1, 2]))
    assert scores[0] == 0
    assert scores[1] == 1
    assert np.isnan(scores[2])
