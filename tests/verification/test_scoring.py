"""Scores against plain loops: cosine with exactly rounded sums, mean, models, AS-norm."""

import logging
import math
import statistics

import numpy as np
import pytest

from sparsify.errors import SparsifyError
from sparsify.verification import scoring
from sparsify.verification.scoring import Scoring, cosine_scores, scoring_with_cohort
from sparsify.verification.trials import Trials


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


def pairs(enrolment, test, utterances, models=()):
    names = tuple(map(str, range(utterances)))
    enrolment, test = np.array(enrolment), np.array(test)
    return Trials(names, enrolment, test, np.zeros(len(test), dtype=bool), models)


def unit(vector):
    return vector / math.sqrt(math.fsum(x * x for x in vector))


def as_norm(enrolment, test, cohort, top_n):
    """The definition, one trial at a time."""
    score = cosine(enrolment, test)
    halves = []
    for side in (enrolment, test):
        highest = sorted((cosine(side, speaker) for speaker in cohort), reverse=True)[:top_n]
        halves.append((score - statistics.fmean(highest)) / statistics.pstdev(highest))
    return statistics.fmean(halves)


@pytest.mark.parametrize(("top_n", "block"), [(2, 1), (4, 3), (7, 1 << 15), (99, 5)])
@pytest.mark.parametrize("subtract_mean", [False, True])
def test_as_norm_equals_its_definition(monkeypatch, top_n, block, subtract_mean):
    monkeypatch.setattr(scoring, "_BLOCK", block)
    monkeypatch.setattr(scoring, "_COHORT_BLOCK", block)
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((9, 6)).astype(np.float32) + 0.5
    of_cohort = rng.standard_normal((20, 6)).astype(np.float32) + 0.5
    speakers = [str(i % 7) for i in range(20)]
    found = scoring_with_cohort(
        of_cohort, speakers, subtract_mean=subtract_mean, as_norm=True, top_n=top_n
    )
    mean = of_cohort.astype(float).mean(axis=0) if subtract_mean else np.zeros(6)
    cohort = [
        sum(unit(row - mean) for row, who in zip(of_cohort, speakers, strict=True) if who == name)
        for name in sorted(set(speakers))
    ]
    enrolment, test = rng.integers(0, 9, (2, 12))
    trials = pairs(enrolment, test, 9)
    expected = [
        as_norm(embeddings[i] - mean, embeddings[j] - mean, cohort, top_n)
        for i, j in zip(enrolment, test, strict=True)
    ]
    np.testing.assert_allclose(found.scores(embeddings, trials), expected, atol=1e-10)


def test_a_model_is_the_average_of_unit_length_embeddings():
    rng = np.random.default_rng(1)
    embeddings = rng.standard_normal((6, 5)) * np.array([1, 100, 1, 1, 1, 1])[:, None]
    mean = rng.standard_normal(5)
    trials = pairs([6, 7, 7], [4, 4, 5], 6, models=((0, 1, 2), (3,)))
    centred = embeddings - mean
    model = unit(centred[0]) + unit(centred[1]) + unit(centred[2])
    expected = [
        cosine(model, centred[4]),
        cosine(centred[3], centred[4]),
        cosine(centred[3], centred[5]),
    ]
    np.testing.assert_allclose(Scoring(mean).scores(embeddings, trials), expected, atol=1e-12)
    cohort = np.stack([unit(row) for row in rng.standard_normal((5, 5))])
    expected = as_norm(model, centred[4], cohort, 3)
    normalised = Scoring(mean, cohort, 3).scores(embeddings, trials)
    assert normalised[0] == pytest.approx(expected, abs=1e-10)


def test_as_norm_is_symmetric_and_pairs_score_alike():
    rng = np.random.default_rng(2)
    embeddings, cohort = rng.standard_normal((2, 8)), rng.standard_normal((10, 8))
    found = scoring_with_cohort(cohort, list("abcdefghij"), as_norm=True, top_n=5)
    there, back = found.scores(embeddings, pairs([0, 1], [1, 0], 2))
    assert there == pytest.approx(back, abs=1e-12)
    assert found.pair_score(embeddings[0], embeddings[1]) == there


def test_a_given_mean_is_used_instead_of_the_cohorts():
    rng = np.random.default_rng(3)
    cohort, mean = rng.standard_normal((6, 4)), rng.standard_normal(4)
    found = scoring_with_cohort(cohort, list("aabbcc"), mean=mean, subtract_mean=True)
    np.testing.assert_array_equal(found.mean, mean)
    assert found.cohort is None


def test_a_small_cohort_is_used_whole_with_a_warning(caplog):
    cohort = np.random.default_rng(0).standard_normal((6, 4))
    with caplog.at_level(logging.WARNING, "sparsify"):
        scoring_with_cohort(cohort, list("aabbcc"), as_norm=True)
    assert "3 speakers" in caplog.text
    assert "top 300" in caplog.text


def test_an_embedding_without_direction_has_finite_scores():
    cohort = np.eye(3)
    scores = Scoring(None, cohort, 2).scores(np.array([[0.0, 0, 0], [1, 2, 3]]), pairs([0], [1], 2))
    assert np.isfinite(scores).all()


def test_what_does_not_fit_is_refused():
    trials = pairs([0], [1], 2)
    embeddings = np.ones((2, 3))
    with pytest.raises(SparsifyError, match="mean to subtract has 4 dimensions"):
        Scoring(np.ones(4)).scores(embeddings, trials)
    with pytest.raises(SparsifyError, match="cohort has 2 dimensions"):
        Scoring(None, np.eye(2)).scores(embeddings, trials)
    with pytest.raises(SparsifyError, match="embedding of '1' is not finite"):
        Scoring().scores(np.array([[1, 2], [np.nan, 1]]), trials)
    with pytest.raises(SparsifyError, match="two or more cohort speakers"):
        scoring_with_cohort(embeddings, ["a", "a"], as_norm=True)
    with pytest.raises(SparsifyError, match="cohort is not finite"):
        scoring_with_cohort(embeddings * np.inf, ["a", "b"], as_norm=True)
