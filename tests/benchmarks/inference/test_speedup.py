"""Intervals of speed-ups keep what they promise, whatever the noise."""

import numpy as np
import pytest
from scipy.stats import binomtest, quantile_test

from sparsify.benchmarks.inference import speedup
from sparsify.benchmarks.inference.speedup import BETWEEN_PROCESSES, paired_speedup
from sparsify.defaults import FEWEST_ROUNDS

TRIALS = 600


def quiet(rng, slots):
    return rng.normal(1, 0.02, slots)


def spikes(rng, slots):
    return 1 + 0.02 * rng.standard_cauchy(slots) ** 2


def drift(rng, slots):
    return np.exp(np.cumsum(rng.normal(0, 0.05, slots)))


def bursts(rng, slots):
    """Another process takes half of the machine, for several rounds together."""
    busy = np.zeros(slots)
    for start in rng.integers(0, slots, 3):
        busy[start : start + rng.integers(1, slots // 3)] = 1
    return (1 + busy) * rng.normal(1, 0.02, slots)


def simulated(noise, rng, rounds, gain=1.0, candidates=3):
    """Times of a baseline, and of a candidate that is so many times as fast, among others."""
    slots = noise(rng, rounds * candidates).reshape(rounds, candidates)
    order = np.array([rng.permutation(candidates) for _ in range(rounds)])
    times = np.take_along_axis(slots, order, axis=1)
    return times[:, 0] / gain, times[:, 1]


@pytest.mark.parametrize("noise", [quiet, spikes, drift, bursts])
@pytest.mark.parametrize("rounds", [FEWEST_ROUNDS, 12, 31])
def test_equal_candidates_are_level_with_95_percent(noise, rounds, monkeypatch):
    monkeypatch.setattr(speedup, "BETWEEN_PROCESSES", 0.0)
    rng = np.random.default_rng(rounds)
    results = [paired_speedup(*simulated(noise, rng, rounds)) for _ in range(TRIALS)]
    wrong = sum(not result.low <= 1 <= result.high for result in results)
    assert binomtest(wrong, TRIALS, 0.05, alternative="greater").pvalue > 0.01


@pytest.mark.parametrize("noise", [quiet, bursts])
def test_a_real_gain_is_found(noise):
    rng = np.random.default_rng(0)
    results = [paired_speedup(*simulated(noise, rng, 20, gain=1.5)) for _ in range(100)]
    assert np.median([result.median for result in results]) == pytest.approx(1.5, rel=0.02)
    assert np.mean([result.low > 1 for result in results]) > 0.9
    assert np.mean([result.low <= 1.5 <= result.high for result in results]) >= 0.93


@pytest.mark.parametrize("rounds", [6, 7, 12, 25, 50])
def test_the_interval_is_that_of_the_sign_test(rounds):
    rng = np.random.default_rng(rounds)
    times, baseline = rng.uniform(1, 2, (2, rounds))
    result = paired_speedup(times, baseline)
    ratios = np.sort(baseline / times)
    margin = 1 + BETWEEN_PROCESSES
    outside = int(np.searchsorted(ratios, result.low * margin * (1 - 1e-9)))
    assert result.high / margin == pytest.approx(ratios[-1 - outside])
    assert binomtest(outside, rounds).pvalue <= 0.05 < binomtest(outside + 1, rounds).pvalue
    expected = quantile_test(baseline / times, q=1, p=0.5).confidence_interval(0.95)
    assert result.low * margin == pytest.approx(expected.low)
    assert result.median == np.median(ratios)


def test_rounds_must_pair_and_suffice():
    for times, baseline in (([1.0] * 6, [1.0] * 7), ([1.0] * 5, [1.0] * 5)):
        with pytest.raises(ValueError, match="rounds"):
            paired_speedup(times, baseline)
