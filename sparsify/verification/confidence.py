"""Confidence intervals of error rates: what another sample of speakers might have given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsify.defaults import CONFIDENCE_PERCENT
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.verification.metrics import (
    DetectionCost,
    Rates,
    checked_trials,
    equal_error_rate,
    last_of_ties,
)

REPLICATES = 1000
_DECIMALS = 4  # of a percentage

Interval = tuple[float, float]


@dataclass(frozen=True)
class Confidence:
    """Bootstrap intervals of a trial list's error rates.

    Attributes:
        percent: Confidence level.
        speakers: Number of speakers, which were drawn anew in each replicate.
        replicates: Number of replicates.
        eer_percent: Interval of the equal error rate, in percent.
        min_dcf: Interval of the minimum detection cost, for each cost that was asked for.
        resampled_eer_percent: The equal error rate of every replicate. Where seed and speakers are
            the same, so are the samples: two models can be compared sample by sample.
    """

    percent: float
    speakers: int
    replicates: int
    eer_percent: Interval
    min_dcf: tuple[Interval, ...]
    resampled_eer_percent: tuple[float, ...]


def paired_interval(rates: ArrayLike, others: ArrayLike, percent: float) -> Interval:
    """Percentile interval of a difference between rates of the same samples.

    Speakers that are hard for one model are mostly hard for the other, too: drawn for both at once
    they cancel, so that this interval is much narrower than those of the rates.

    Args:
        rates: One for each sample, `(N,)`.
        others: What is subtracted, `(N,)`.
        percent: Confidence level, in (0, 100).
    """
    tail = (100 - percent) / 2
    low, high = np.percentile(np.subtract(rates, others), [tail, 100 - tail])
    return float(low), float(high)


def bootstrap(
    scores: ArrayLike,
    labels: ArrayLike,
    enrolled_speakers: ArrayLike,
    test_speakers: ArrayLike,
    costs: Sequence[DetectionCost] = (),
    *,
    percent: float = CONFIDENCE_PERCENT,
    replicates: int = REPLICATES,
    seed: int = 0,
    track: Track = silent,
) -> Confidence:
    """Percentile intervals over resampled speakers (Efron's bootstrap, with speakers as units).

    The trials of a speaker are anything but independent, so speakers are drawn, not trials: as many
    as there are, with replacement. A speaker drawn k times counts as k speakers, so a trial between
    speakers drawn k and l times has weight k·l, as in the vertex bootstrap of Snijders and Borgatti
    (1999), and a trial within a speaker drawn k times weight k: each of them has those trials
    once. Weighting gives the rates of the copied trials without copying any.

    Args:
        scores: One score per trial, `(N,)`.
        labels: True for target trials, `(N,)`.
        enrolled_speakers: Number of the speaker on the enrolment side, `(N,)`.
        test_speakers: Number of the speaker on the test side, `(N,)`.
        costs: The detection costs to give intervals for.
        percent: Confidence level, in (0, 100).
        replicates: Samples of speakers.
        seed: Of the samples.
        track: Shows progress.

    Raises:
        SparsifyError: As `eer`, or there are fewer than two speakers.
    """
    values, is_target = checked_trials(scores, labels)
    sides = np.stack([np.asarray(enrolled_speakers), np.asarray(test_speakers)])
    names, numbers = np.unique(sides, return_inverse=True)
    if len(names) < 2:
        raise SparsifyError("confidence intervals need trials of two or more speakers")
    resampled = _Resampled(values, is_target, numbers.reshape(sides.shape), len(names))
    found = np.empty((replicates, 1 + len(costs)))
    samples = resampled.samples(np.random.default_rng(seed))
    for row in track(found, "Resampling speakers", replicates):
        miss, false_alarm = next(samples)
        row[0] = 100 * equal_error_rate(miss, false_alarm)
        row[1:] = [cost.of(miss, false_alarm).min() for cost in costs]
    tail = (100 - percent) / 2
    lows, highs = np.percentile(found, [tail, 100 - tail], axis=0)
    intervals = tuple(zip(lows.tolist(), highs.tolist(), strict=True))
    rates = tuple(found[:, 0].round(_DECIMALS).tolist())
    return Confidence(percent, len(names), replicates, intervals[0], intervals[1:], rates)


def resampled_eers(
    scores: ArrayLike,
    labels: ArrayLike,
    enrolled_speakers: ArrayLike,
    test_speakers: ArrayLike,
    times: NDArray[np.int64],
) -> Rates:
    """The EER in percent of given samples of speakers, weighted as in `bootstrap`.

    So samples can be the same for lists of which each has a part of the speakers.

    Args:
        scores: One score per trial, `(N,)`.
        labels: True for target trials, `(N,)`.
        enrolled_speakers: Number of the speaker on the enrolment side, below `S`, `(N,)`.
        test_speakers: Number of the speaker on the test side, below `S`, `(N,)`.
        times: How often each speaker was drawn, `(replicates, S)`.

    Returns:
        `(replicates,)`; NaN where a sample has lost all trials of a kind.

    Raises:
        SparsifyError: As `eer`.
    """
    values, is_target = checked_trials(scores, labels)
    sides = np.stack([np.asarray(enrolled_speakers), np.asarray(test_speakers)])
    resampled = _Resampled(values, is_target, sides, times.shape[1])
    rates = [resampled.rates(sample) for sample in times]
    return np.array([np.nan if each is None else 100 * equal_error_rate(*each) for each in rates])


class _Resampled:
    """Trials prepared once, so that a replicate costs two look-ups and a cumulative sum each."""

    def __init__(
        self,
        values: Rates,
        is_target: NDArray[np.bool_],
        speakers: NDArray[np.int64],
        count: int,
    ) -> None:
        order = np.argsort(-values, kind="stable")
        values, is_target, speakers = values[order], is_target[order], speakers[:, order]
        last = last_of_ties(values)
        accepted = [np.append(0, np.cumsum(kind)[last]) for kind in (is_target, ~is_target)]
        # No other point can be a corner of a weighted ROC: nontargets alone move along a line.
        gains = np.diff(accepted[0]) > 0
        keep = np.append(gains, True) | np.append(True, gains)
        self._accepted = [kind[keep] for kind in accepted]
        self._sides = [speakers[:, kind] for kind in (is_target, ~is_target)]
        self._within = [first == second for first, second in self._sides]
        self._count = count

    def samples(self, rng: np.random.Generator) -> Iterator[tuple[Rates, Rates]]:
        """Miss and false-alarm rates of one replicate after the other, without end."""
        fair = np.full(self._count, 1 / self._count)
        while True:
            found = self.rates(rng.multinomial(self._count, fair))
            if found is not None:
                yield found

    def rates(self, times: NDArray[np.int64]) -> tuple[Rates, Rates] | None:
        """Miss and false-alarm rates, unless the sample has lost all trials of a kind."""
        hits, alarms = (self._accepted_share(kind, times) for kind in (0, 1))
        return None if hits is None or alarms is None else (1 - hits, alarms)

    def _accepted_share(self, kind: int, times: NDArray[np.int64]) -> Rates | None:
        first, second = self._sides[kind]
        weights = times[first]
        np.multiply(weights, times[second], out=weights, where=~self._within[kind])
        sums = np.append(0, np.cumsum(weights))
        return sums[self._accepted[kind]] / sums[-1] if sums[-1] else None
