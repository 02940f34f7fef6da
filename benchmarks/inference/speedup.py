"""How many times as fast one candidate is as another, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from sparsify.defaults import FEWEST_ROUNDS

_CONFIDENCE = 0.95
BETWEEN_PROCESSES = 0.02
"""What two processes with the same file may differ by for as long as they live, which no number of
rounds shows."""


@dataclass(frozen=True)
class Speedup:
    """A ratio of times, over 1 where the candidate is faster than its baseline.

    Attributes:
        median: Over the rounds.
        low: Lower end of its interval of 95 %.
        high: Upper end.
    """

    median: float
    low: float
    high: float


ITSELF = Speedup(1.0, 1.0, 1.0)
"""Of a baseline."""


def paired_speedup(times: Sequence[float], baseline: Sequence[float]) -> Speedup:
    """The median over rounds of the baseline's time over the candidate's in the same round.

    The interval is that of the sign test: of n ratios in order the k-th to the (n+1−k)-th, k being
    the largest with 2·P(Binomial(n, ½) < k) ≤ 5 % (Conover, Practical Nonparametric Statistics, 3rd
    edition, 1999, section 3.2). Because the order within a round is drawn at random, each of two
    equal candidates is the slower one in any round with probability ½, whatever noise there is and
    however long it lasts: the interval of equal ones contains 1 with at least 95 %. It is widened
    by `BETWEEN_PROCESSES` on both sides.

    Args:
        times: Of the candidate, one a round.
        baseline: Of the baseline in the same rounds.

    Raises:
        ValueError: The rounds do not pair, or are fewer than `FEWEST_ROUNDS`.
    """
    if len(times) != len(baseline) or len(times) < FEWEST_ROUNDS:
        raise ValueError(f"{len(times)} rounds do not pair with {len(baseline)}, or are too few")
    ratios = np.sort(np.asarray(baseline) / np.asarray(times))
    outside = _outside(len(ratios))
    margin = 1 + BETWEEN_PROCESSES
    return Speedup(
        median=float(np.median(ratios)),
        low=float(ratios[outside] / margin),
        high=float(ratios[-1 - outside] * margin),
    )


def _outside(rounds: int) -> int:
    """How many of the ratios lie outside of the interval on either side."""
    most, below, count = (1 - _CONFIDENCE) / 2, 0.0, 0
    while (below := below + comb(rounds, count) / 2**rounds) <= most:
        count += 1
    return count - 1
