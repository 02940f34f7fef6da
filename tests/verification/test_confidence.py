"""Bootstrap over speakers, against copied trials and the spread of a mean over speakers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsify.errors import SparsifyError
from sparsify.verification.confidence import _Resampled, bootstrap, resampled_eers
from sparsify.verification.metrics import DetectionCost, eer, min_dcf


def random_trials(rng, speakers, trials, decimals):
    sides = rng.integers(0, speakers, (2, trials))
    sides[1, : trials // 3] = sides[0, : trials // 3]
    labels = sides[0] == sides[1]
    scores = np.round(rng.standard_normal(trials) + labels, decimals)
    return scores, labels, sides


def copied(scores, labels, sides, times):
    """The trials as often as a sample of speakers has them, one copy after the other."""
    rows = []
    for i in range(len(scores)):
        first, second = times[sides[0, i]], times[sides[1, i]]
        rows += [i] * int(first if sides[0, i] == sides[1, i] else first * second)
    return scores[rows], labels[rows]


@given(st.integers(0, 10**6), st.integers(3, 8), st.integers(0, 2))
def test_a_replicate_has_the_rates_of_copied_trials(seed, speakers, decimals):
    scores, labels, sides = random_trials(np.random.default_rng(seed), speakers, 60, decimals)
    times = np.random.default_rng(seed).multinomial(speakers, [1 / speakers] * speakers)
    some, kinds = copied(scores, labels, sides, times)
    (found,) = resampled_eers(scores, labels, *sides, times[None])
    rates = _Resampled(scores, labels, sides, speakers).rates(times)
    if not 0 < kinds.sum() < len(kinds):
        assert rates is None
        assert np.isnan(found)
        return
    assert found == pytest.approx(eer(some, kinds), abs=1e-9)
    for p_target in (0.01, 0.5):
        least = DetectionCost(p_target).of(*rates).min()
        assert least == pytest.approx(min_dcf(some, kinds, p_target), abs=1e-9)


def test_intervals_are_percentiles_of_copied_trials():
    scores, labels, sides = random_trials(np.random.default_rng(0), 10, 300, 2)
    costs = [DetectionCost(0.05, 2, 1), DetectionCost(0.5)]
    found = bootstrap(scores, labels, *sides, costs, percent=80, replicates=50, seed=3)
    rng = np.random.default_rng(3)
    expected = []
    for _ in range(50):
        some, kinds = copied(scores, labels, sides, rng.multinomial(10, [0.1] * 10))
        costs_now = [min_dcf(some, kinds, c.p_target, c.c_miss, c.c_fa) for c in costs]
        expected.append([eer(some, kinds), *costs_now])
    low, high = np.percentile(expected, [10, 90], axis=0)
    assert found.eer_percent == pytest.approx((low[0], high[0]))
    for interval, lower, upper in zip(found.min_dcf, low[1:], high[1:], strict=True):
        assert interval == pytest.approx((lower, upper))
    assert (found.percent, found.speakers, found.replicates) == (80, 10, 50)
    assert found.resampled_eer_percent == pytest.approx([row[0] for row in expected], abs=1e-4)


def test_the_spread_is_that_of_independent_speakers():
    # 100 speakers whose target trials are all missed with probability ½ or all hit; nontargets are
    # all rejected. At p = 0.01 the cost is the miss rate, a mean of 100 coins: deviation 0.05.
    # Treating the trials (50 a speaker) as independent would make it seven times smaller.
    missed = np.arange(100) % 2 == 0
    speakers = np.repeat(np.arange(100), 50)
    scores = np.concatenate([np.where(missed[speakers], -1.0, 1.0), np.zeros(5000)])
    labels = np.arange(10_000) < 5000
    others = (speakers + 1 + np.tile(np.arange(50), 100)) % 100
    sides = np.concatenate([speakers, speakers]), np.concatenate([speakers, others])
    found = bootstrap(scores, labels, *sides, [DetectionCost(0.01)], replicates=2000)
    low, high = found.min_dcf[0]
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.01)
    assert (high - low) / (2 * 1.96) == pytest.approx(0.05, rel=0.06)


def test_the_seed_decides_and_the_level_widens():
    scores, labels, sides = random_trials(np.random.default_rng(1), 12, 400, 3)
    first, again, other = (
        bootstrap(scores, labels, *sides, replicates=100, seed=seed).eer_percent
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    wide = bootstrap(scores, labels, *sides, percent=99, replicates=100).eer_percent
    narrow = bootstrap(scores, labels, *sides, percent=50, replicates=100).eer_percent
    assert wide[0] < narrow[0] <= eer(scores, labels) <= narrow[1] < wide[1]


def test_one_speaker_has_no_interval():
    with pytest.raises(SparsifyError, match="two or more speakers"):
        bootstrap([0.1, 0.2], [1, 0], [0, 0], [0, 0])
