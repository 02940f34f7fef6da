"""Error rates of a verification system: equal error rate and minimum detection cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsify.errors import SparsifyError


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
    miss, false_alarm = _operating_points(scores, labels)
    gap = miss - false_alarm  # falls strictly from 1 (reject all) to -1 (accept all)
    after = int(np.argmax(gap <= 0))
    before = after - 1
    share = gap[before] / (gap[before] - gap[after])
    crossing = false_alarm[before] + share * (false_alarm[after] - false_alarm[before])
    return 100 * float(crossing)


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
        SparsifyError: As `eer`, or `p_target` is not between 0 and 1.
    """
    if not 0 < p_target < 1:
        raise SparsifyError(f"p_target must lie between 0 and 1, got {p_target}")
    miss, false_alarm = _operating_points(scores, labels)
    miss_weight, false_alarm_weight = c_miss * p_target, c_fa * (1 - p_target)
    costs = miss_weight * miss + false_alarm_weight * false_alarm
    return float(costs.min() / min(miss_weight, false_alarm_weight))


def _operating_points(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Miss and false-alarm rates at every distinct threshold, from reject-all to accept-all."""
    values, is_target = _checked(scores, labels)
    order = np.argsort(-values, kind="stable")
    values, is_target = values[order], is_target[order]
    last_of_ties = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
    hits = np.append(0, np.cumsum(is_target)[last_of_ties])
    accepted = np.append(0, last_of_ties + 1)
    targets = int(hits[-1])
    return 1 - hits / targets, (accepted - hits) / (len(values) - targets)


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values, is_target = np.asarray(scores), np.asarray(labels, dtype=bool)
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
