"""Differences between methods in EER, with intervals that pair what is the same for both.

Speakers are few, so the interval of one model's EER is wide; but the speakers that are hard for one
model are mostly hard for the other, too. Resampled together, they cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.comparison.means import by_cell
from sparsify.comparison.rows import Row

REFERENCE = "dense"  # what the others are compared with, where it was trained
LEVEL = 95.0  # percent, of the intervals

Samples = NDArray[np.float64]


def differences(rows: Iterable[Row], tests: Sequence[str]) -> list[Row]:
    """The difference in EER of every two methods at the same target, on every test set.

    A two-way bootstrap: a replicate draws test speakers, the same ones for both methods, and seeds,
    the same ones for methods with as many; a method's EER is its mean over the seeds that were
    drawn. With one seed the interval knows nothing of what another training would give.

    Args:
        rows: Of the runs.
        tests: Names of the test sets.

    Returns:
        For each test set and each two methods with the same target, or of which one knows no
        target: `test method against target_sparsity`, the difference `eer_percent` of the method
        minus the other in points, and `low` and `high`, the ends of its interval. Runs that were
        not resampled over the same speakers are in none.
    """
    cells = by_cell(rows)
    found = []
    for test in tests:
        known = {
            name: (np.mean([row["tests"][test]["eer_percent"] for row in group]), samples)
            for name, group in cells.items()
            if (samples := _samples(group, test)) is not None
        }
        for one, two in permutations(known, 2):
            first, second = cells[one][0], cells[two][0]
            targets = {row["target_sparsity"] for row in (first, second)} - {None}
            (eer, ours), (other, theirs) = known[one], known[two]
            if len(targets) > 1 or ours.shape != theirs.shape:
                continue
            tail = (100 - LEVEL) / 2
            low, high = np.percentile(ours - theirs, [tail, 100 - tail])
            found.append(
                {
                    "test": test,
                    "method": first["method"],
                    "against": second["method"],
                    "target_sparsity": next(iter(targets), None),
                    "eer_percent": float(eer - other),
                    "low": float(low),
                    "high": float(high),
                }
            )
    return found


def _samples(group: Sequence[Row], test: str) -> Samples | None:
    """The EER of a cell in every replicate, `(R,)`, if all its runs have been resampled alike."""
    resampled = [_resampled(row["tests"].get(test, {})) for row in group]
    if not all(resampled) or len({len(each) for each in resampled}) > 1:
        return None
    rates = np.array(resampled)
    runs, replicates = rates.shape
    drawn = np.random.default_rng(0).integers(runs, size=(runs, replicates))
    samples: Samples = np.take_along_axis(rates, drawn, axis=0).mean(axis=0)
    return samples


def _resampled(evaluation: dict[str, Any]) -> Sequence[float]:
    return (evaluation.get("confidence") or {}).get("resampled_eer_percent", ())
