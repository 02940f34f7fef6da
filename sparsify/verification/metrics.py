"""Error rates of a verification system: operating points, equal error rate, detection cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsify.errors import SparsifyError

Rates = NDArray[np.float64]


@dataclass(frozen=True)
class DetectionCost:
    """The cost of the errors of a verification system (NIST SRE).

    Attributes:
        p_target: Prior probability of a target trial, in (0, 1).
        c_miss: Cost of a miss, positive.
        c_fa: Cost of a false alarm, positive.
    """

    p_target: float = 0.01
    c_miss: float = 1.0
    c_fa: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.p_target < 1:
            raise SparsifyError(f"p_target must lie between 0 and 1, got {self.p_target}")
        if not (0 < self.c_miss < np.inf and 0 < self.c_fa < np.inf):
            raise SparsifyError(
                f"c_miss and c_fa must be positive, got {self.c_miss} and {self.c_fa}"
            )
        weights = self.c_miss * self.p_target, self.c_fa * (1 - self.p_target)
        if not min(weights) > np.finfo(float).tiny * max(*weights, 1):
            raise SparsifyError(
                f"p_target {self.p_target}, c_miss {self.c_miss} and c_fa {self.c_fa} are too far"
                " apart to be weighed against each other"
            )

    def of(self, miss: Rates, false_alarm: Rates) -> Rates:
        """`c_miss·p_target·P_miss + c_fa·(1 − p_target)·P_fa`, normalised.

        It is divided by the cost of the better of accepting and rejecting everything.
        """
        miss_weight, alarm_weight = self.c_miss * self.p_target, self.c_fa * (1 - self.p_target)
        costs: Rates = miss_weight * miss + alarm_weight * false_alarm
        return costs / min(miss_weight, alarm_weight)


@dataclass(frozen=True)
class OperatingPoints:
    """Error rates at every distinct threshold, from rejecting all trials to accepting all.

    Attributes:
        lowest_accepted: The lowest score that a point accepts, `(P,)`, falling; infinite at first.
        miss: Share of the target trials that are rejected, `(P,)`.
        false_alarm: Share of the nontarget trials that are accepted, `(P,)`.
    """

    lowest_accepted: Rates
    miss: Rates
    false_alarm: Rates

    @property
    def eer(self) -> float:
        """Equal error rate in percent; see `eer`."""
        return 100 * equal_error_rate(self.miss, self.false_alarm)

    def min_dcf(self, cost: DetectionCost) -> float:
        """Smallest normalised detection cost over all thresholds."""
        return float(cost.of(self.miss, self.false_alarm).min())

    def eer_threshold(self) -> float:
        """A threshold where the miss rate and the false-alarm rate are as near as they come."""
        return self.threshold(int(np.argmin(np.abs(self.miss - self.false_alarm))))

    def min_dcf_threshold(self, cost: DetectionCost) -> float:
        """A threshold where the detection cost is smallest."""
        return self.threshold(int(np.argmin(cost.of(self.miss, self.false_alarm))))

    def threshold(self, point: int) -> float:
        """The score from which to accept: midway between the lowest accepted and the next lower.

        Midway, so that the rounding of another runtime does not change a decision.
        """
        scores = self.lowest_accepted
        if point == len(scores) - 1:
            return float(scores[point])
        if point == 0:
            return float(np.nextafter(scores[1], np.inf))
        return float((scores[point] + scores[point + 1]) / 2)

    def corners(self) -> OperatingPoints:
        """Without the points that lie on a horizontal or vertical stretch between two others."""
        steps = np.stack([np.diff(self.miss) != 0, np.diff(self.false_alarm) != 0])
        keep = np.ones(len(self.miss), dtype=bool)
        keep[1:-1] = (steps[:, 1:] | steps[:, :-1]).all(axis=0)
        return OperatingPoints(self.lowest_accepted[keep], self.miss[keep], self.false_alarm[keep])


def operating_points(scores: ArrayLike, labels: ArrayLike) -> OperatingPoints:
    """Sorts trials by score; those of equal score are accepted or rejected together.

    Args:
        scores: One score per trial, higher meaning more alike, `(N,)`.
        labels: True for target trials, `(N,)`.

    Raises:
        SparsifyError: There are no target or no nontarget trials, or a score is not finite.
    """
    values, is_target = checked_trials(scores, labels)
    order = np.argsort(-values, kind="stable")
    values, is_target = values[order], is_target[order]
    last = last_of_ties(values)
    hits = np.append(0, np.cumsum(is_target)[last])
    accepted = np.append(0, last + 1)
    targets = int(hits[-1])
    return OperatingPoints(
        lowest_accepted=np.append(np.inf, values[last]),
        miss=1 - hits / targets,
        false_alarm=(accepted - hits) / (len(values) - targets),
    )


def eer(scores: ArrayLike, labels: ArrayLike) -> float:
    """Equal error rate in percent.

    Trials of equal score are accepted or rejected together. The operating points this leaves are
    joined by straight lines, and the rate is read where the miss rate equals the false-alarm rate
    (the ROC itself, not its convex hull). It does not change under increasing transforms of the
    scores.

    Args:
        scores: One score per trial, higher meaning more alike, `(N,)`.
        labels: True for target trials, `(N,)`.

    Raises:
        SparsifyError: There are no target or no nontarget trials, or a score is not finite.
    """
    return operating_points(scores, labels).eer


def min_dcf(
    scores: ArrayLike,
    labels: ArrayLike,
    p_target: float = 0.01,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> float:
    """Smallest normalised detection cost over all thresholds (NIST SRE).

    `min_t c_miss·p_target·P_miss(t) + c_fa·(1 − p_target)·P_fa(t)`, divided by the cost of the
    better of accepting and rejecting everything; hence at most 1.

    Args:
        scores: One score per trial, higher meaning more alike, `(N,)`.
        labels: True for target trials, `(N,)`.
        p_target: Prior probability of a target trial, in (0, 1).
        c_miss: Cost of a miss.
        c_fa: Cost of a false alarm.

    Raises:
        SparsifyError: As `eer`, `p_target` is not between 0 and 1, or a cost is not positive.
    """
    return operating_points(scores, labels).min_dcf(DetectionCost(p_target, c_miss, c_fa))


def equal_error_rate(miss: Rates, false_alarm: Rates) -> float:
    """Where the line through operating points crosses `miss = false_alarm`, in [0, 1].

    Args:
        miss: Falling from 1 to 0, `(P,)`.
        false_alarm: Rising from 0 to 1, `(P,)`.
    """
    gap = miss - false_alarm  # falls from 1 (reject all) to -1 (accept all)
    after = int(np.argmax(gap <= 0))
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    return float(false_alarm[before] + share * (false_alarm[after] - false_alarm[before]))


def last_of_ties(values: NDArray[Any]) -> NDArray[np.int64]:
    """Index of the last of each run of equal values, `(distinct,)`, of sorted values `(N,)`."""
    return np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)


def checked_trials(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores and labels as arrays that error rates can be computed of.

    Raises:
        SparsifyError: Their lengths differ, there are no target or no nontarget trials, or a score
            is not finite.
    """
    values, is_target = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if values.ndim != 1 or values.shape != is_target.shape:
        raise SparsifyError(
            f"scores and labels must be two lists of one length, got shapes {values.shape}"
            f" and {is_target.shape}"
        )
    if not np.isfinite(values).all():
        raise SparsifyError(
            f"{np.count_nonzero(~np.isfinite(values))} of {len(values)} scores are not finite:"
            " the model gives NaN or infinite embeddings"
        )
    targets = int(is_target.sum())
    if targets in (0, len(values)):
        kind = "target" if targets == 0 else "nontarget"
        raise SparsifyError(f"there are no {kind} trials among {len(values)}: give both kinds")
    return values, is_target
