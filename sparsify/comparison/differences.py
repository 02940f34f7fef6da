"""Differences between methods in EER, with intervals that pair what is the same for both.

Speakers are few, so the interval of one model's EER is wide; but the speakers that are hard for one
model are mostly hard for the other, too. Resampled together, they cancel.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sparsify.comparison.cells import target_keys, target_of
from sparsify.comparison.means import by_cell
from sparsify.comparison.rows import Row
from sparsify.defaults import CONFIDENCE_PERCENT
from sparsify.verification.confidence import paired_interval

logger = logging.getLogger(__name__)

_MOST_PAIRS = 2000
REFERENCE = "dense"  # what the others are compared with, where it was trained
OVERALL = "mean of all"  # test sets; no name of a test set has spaces


def differences(rows: Iterable[Row], tests: Sequence[str]) -> list[Row]:
    """The difference in EER of every two methods at the same target, on every test set and overall.

    A two-way bootstrap: a replicate draws test speakers and seeds, the same ones for both methods;
    a method's EER is its mean over the seeds that were drawn. Runs with a seed that the other
    method lacks are left out, since a seed is a split of the speakers, too, and easy or hard for
    both. Methods with no seed in common have theirs drawn apart. With one seed the interval knows
    nothing of what another training would give.

    Args:
        rows: Of the runs.
        tests: Names of the test sets.

    Returns:
        For each test set, for the mean of all (`OVERALL`) where there are several, and for each two
        methods with the same target, or of which one knows no target: `test method against
        target_sparsity target_macs`, `seeds` (those in common; `None` if there are none), and of
        the method minus the other in points `by_seed` (for each of these; `None`, too), the
        difference `eer_percent`, and `low` and `high`, the ends of its interval. Runs without
        resampled EERs (see `unsampled`) are in none, and neither are methods that were evaluated on
        other trials. In the mean of all a replicate draws the same speakers from sets with the same
        trials.
    """
    cells = by_cell(rows)
    sets = {test: [test] for test in tests} | ({OVERALL: tests} if len(tests) > 1 else {})
    found = []
    for test, meant in sets.items():
        known = {name: rates for name in cells if (rates := _resampled(cells[name], meant))}
        kinds = Counter(target_of(cells[name][0]) for name in known)
        free = kinds.pop(None, 0)
        if sum(math.comb(count + free, 2) for count in kinds.values()) > _MOST_PAIRS:
            logger.warning(
                "%d kinds of models are too many to compare every two of them on '%s'",
                len(known),
                test,
            )
            continue
        for one, two in combinations(known, 2):
            first, second = cells[one][0], cells[two][0]
            targets = {target_of(row) for row in (first, second)} - {None}
            if len(targets) > 1 or known[one].trials != known[two].trials:
                continue
            target, gap = next(iter(targets), None), _difference(known[one], known[two])
            for method, against, own in ((first, second, gap), (second, first, _reversed(gap))):
                names = {"method": method["method"], "against": against["method"]}
                found.append({"test": test, **names, **target_keys(target), **own})
    return found


def overall(rows: Iterable[Row], tests: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """The mean EER over all test sets, with the ends of its interval over speakers, by cell.

    Args:
        rows: Of the runs.
        tests: Names of the test sets.

    Returns:
        In percent, mean over seeds, by `adabreg@0.9` and the like; without cells whose EERs were
        not resampled on every test set.
    """
    means = {}
    for name, group in by_cell(rows).items():
        if known := _resampled(group, tests):
            low, high = paired_interval(known.rates.mean(axis=0), 0.0, CONFIDENCE_PERCENT)
            means[name] = (float(known.eer_percents.mean()), low, high)
    return means


def unsampled(rows: Iterable[Row], tests: Sequence[str]) -> list[str]:
    """Names of runs whose EER on a test set was not resampled, though that of others was."""
    runs = list(rows)
    sampled = {test for test in tests if any(_samples(row, test) for row in runs)}
    return [
        row["run"]
        for row in runs
        if any(test in row["tests"] and not _samples(row, test) for test in sampled)
    ]


@dataclass(frozen=True)
class _Resampled:
    """The EERs of a method at a target.

    Attributes:
        seeds: Of its runs, in order.
        eer_percents: Of each run.
        rates: Of each run in every replicate, `(seeds, replicates)`.
        trials: What tells those of each test set and their samples from others.
    """

    seeds: tuple[int, ...]
    eer_percents: NDArray[np.float64]
    rates: NDArray[np.float64]
    trials: tuple[object, ...]


def _resampled(group: Sequence[Row], tests: Sequence[str]) -> _Resampled | None:
    """What is known of a cell from its runs that have been resampled, if on the same trials.

    Of several test sets it is the mean.
    """
    ordered = sorted(
        (row for row in group if all(_samples(row, test) for test in tests)),
        key=lambda row: row["seed"],
    )
    trials = {tuple(_trials(row, test) for test in tests) for row in ordered}
    if len(trials) != 1:
        return None
    return _Resampled(
        tuple(row["seed"] for row in ordered),
        np.array([[row["tests"][t]["eer_percent"] for t in tests] for row in ordered]).mean(axis=1),
        np.array([[_samples(row, test) for test in tests] for row in ordered]).mean(axis=1),
        trials.pop(),
    )


def _trials(row: Row, test: str) -> tuple[object, ...]:
    """What tells the trials of a run and their samples from others."""
    evaluation = row["tests"][test]
    return evaluation.get("trials_sha256"), evaluation.get("trials"), len(_samples(row, test))


def _samples(row: Row, test: str) -> Sequence[float]:
    """The resampled EERs of a run on a test set, or nothing."""
    confidence = row["tests"].get(test, {}).get("confidence") or {}
    return confidence.get("resampled_eer_percent") or ()


def _difference(one: _Resampled, two: _Resampled) -> Row:
    """One minus the other, in points: what `differences` tells of them."""
    repeated = any(len({*cell.seeds}) < len(cell.seeds) for cell in (one, two))
    common = [] if repeated else sorted({*one.seeds} & {*two.seeds})
    if common:
        one, two = _with_seeds(one, common), _with_seeds(two, common)
    paired = one.seeds == two.seeds
    drawn = _drawn(one.rates, 0), _drawn(two.rates, 0 if paired else 1)
    low, high = paired_interval(*drawn, CONFIDENCE_PERCENT)
    return {
        "seeds": common or None,
        "by_seed": (one.eer_percents - two.eer_percents).tolist() if common else None,
        "eer_percent": float(one.eer_percents.mean() - two.eer_percents.mean()),
        "low": low,
        "high": high,
    }


def _reversed(gap: Row) -> Row:
    """The other minus the one; a zero keeps no sign."""
    by_seed = gap["by_seed"]
    return {
        "seeds": gap["seeds"],
        "by_seed": by_seed and [0 - each for each in by_seed],
        "eer_percent": 0 - gap["eer_percent"],
        "low": 0 - gap["high"],
        "high": 0 - gap["low"],
    }


def _with_seeds(cell: _Resampled, seeds: Sequence[int]) -> _Resampled:
    """What is known of the runs with these seeds."""
    kept = [index for index, seed in enumerate(cell.seeds) if seed in seeds]
    return _Resampled(
        tuple(cell.seeds[index] for index in kept),
        cell.eer_percents[kept],
        cell.rates[kept],
        cell.trials,
    )


def _drawn(rates: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The mean over runs that are drawn anew, with replacement, in every replicate."""
    runs, replicates = rates.shape
    drawn = np.random.default_rng(seed).integers(runs, size=(runs, replicates))
    means: NDArray[np.float64] = np.take_along_axis(rates, drawn, axis=0).mean(axis=0)
    return means
