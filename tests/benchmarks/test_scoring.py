"""The benchmark of scoring: its trials are what they claim, and every part is measured."""

import numpy as np
import pytest

from sparsify.benchmarks import scoring
from sparsify.benchmarks.scoring import coverage, measure, random_trials, simulated_list
from sparsify.verification.trials import read_trials, speaker_numbers, write_trials


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    for name, value in (("UTTERANCES", 200), ("SPEAKERS", 20), ("COHORT", 30), ("DIMENSIONS", 8)):
        monkeypatch.setattr(scoring, name, value)


def test_trials_are_numbered_as_reading_numbers_them(tmp_path):
    trials, speakers = random_trials(np.random.default_rng(0), 500)
    write_trials(trials, tmp_path / "trials.txt")
    again = read_trials(tmp_path / "trials.txt")
    assert again.utterances == trials.utterances
    np.testing.assert_array_equal(again.enrolment, trials.enrolment)
    np.testing.assert_array_equal(again.test, trials.test)
    enrolled, test = speaker_numbers(trials)
    np.testing.assert_array_equal(enrolled == test, trials.targets)
    assert [f"id{10_000 + s}" for s in speakers] == [n[:7] for n in trials.utterances]
    assert 0.4 < trials.targets.mean() < 0.65


def test_every_part_is_measured():
    row = measure(400)
    parts = {key for key in row if key.endswith("_cpu_seconds")}
    names = ("read", "cosine", "as_norm", "rates", "bootstrap")
    assert parts == {f"{name}_cpu_seconds" for name in names}
    low, high = row["bootstrap_eer_percent"]
    assert low <= row["eer_percent"] <= high


def test_simulated_lists_pair_within_and_across():
    systems, labels, (first, second) = simulated_list(np.random.default_rng(0), 30)
    np.testing.assert_array_equal(labels, first == second)
    assert labels.sum() == 30 * 8 * 7 / 2
    assert (~labels).sum() == pytest.approx(6 * labels.sum(), rel=0.05)
    for scores in systems:
        assert scores[labels].mean() > scores[~labels].mean() + 0.3
    assert 0.5 < np.corrcoef(systems)[0, 1] < 0.99


def test_coverage_counts_the_intervals(monkeypatch):
    monkeypatch.setattr(scoring, "LISTS", 10)
    monkeypatch.setattr(scoring, "LIST_SPEAKERS", (10,))
    monkeypatch.setattr(scoring, "MANY_SPEAKERS", 150)
    (row,) = coverage()
    assert row["held_percent"] >= 70
    assert 3 < row["mean_width_percent"] < 30
    assert row["difference_held_percent"] >= 70
    assert row["difference_mean_width_percent"] < row["mean_width_percent"]
