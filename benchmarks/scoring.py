"""What follows the embeddings of a trial list: its time, and how often an interval holds the truth.

Run it as `python -m sparsify.benchmarks.scoring [--output FILE]`. Embeddings are random; the sizes
are those of VoxCeleb: 150,000 utterances of 1,251 speakers as in the trial lists E and H, and the
5,994 training speakers as the cohort. What is measured is processor time, of all threads together,
so that other work on the machine disturbs little. The intervals are those of many simulated lists,
whose true EER very large ones tell.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from sparsify.benchmarks.machine import command_line, describe_machine
from sparsify.verification.confidence import REPLICATES, bootstrap
from sparsify.verification.metrics import DetectionCost, eer, operating_points
from sparsify.verification.scoring import Scoring, unit_length
from sparsify.verification.trials import Trials, read_trials, speaker_numbers, write_trials

SIZES = (10_000, 100_000, 1_000_000)
UTTERANCES, SPEAKERS, COHORT, DIMENSIONS = 150_000, 1_251, 5_994, 192
TARGET_SHARE = 0.5  # as in the lists of VoxCeleb
REPETITIONS = 3
LISTS, LIST_SPEAKERS, MANY_SPEAKERS, LIST_REPLICATES = 200, (22, 60), 1_000, 200

T = TypeVar("T")
Array: TypeAlias = np.ndarray[Any, Any]


def measure(size: int) -> dict[str, Any]:
    """Processor seconds of each part for a list of `size` trials, the least of some calls."""
    rng = np.random.default_rng(0)
    trials, speakers = random_trials(rng, size)
    count = len(trials.utterances)
    voices = rng.standard_normal((SPEAKERS, DIMENSIONS))
    embeddings = voices[speakers] + 2 * rng.standard_normal((count, DIMENSIONS))
    embeddings = embeddings.astype(np.float32)
    cohort = unit_length(rng.standard_normal((COHORT, DIMENSIONS)))
    mean = rng.standard_normal(DIMENSIONS) / 10
    row: dict[str, Any] = {"trials": size, "utterances": count}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trials.txt")
        write_trials(trials, path)
        row["read_cpu_seconds"], trials = best(lambda: read_trials(path))
    row["cosine_cpu_seconds"], _ = best(lambda: Scoring(mean).scores(embeddings, trials))
    row["as_norm_cpu_seconds"], scores = best(
        lambda: Scoring(mean, cohort).scores(embeddings, trials), 1
    )
    cost = DetectionCost()

    def rates() -> tuple[float, float]:
        points = operating_points(scores, trials.targets)
        return points.eer, points.min_dcf(cost)

    row["rates_cpu_seconds"], (row["eer_percent"], row["min_dcf"]) = best(rates)
    sides = speaker_numbers(trials)
    row["bootstrap_cpu_seconds"], found = best(
        lambda: bootstrap(scores, trials.targets, *sides, [cost]), 1
    )
    row["bootstrap_eer_percent"] = found.eer_percent
    row["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    return row


def random_trials(rng: np.random.Generator, size: int) -> tuple[Trials, Array]:
    """Trials over utterances named `speaker/number`, and the speaker of each that is used."""
    speakers = np.sort(rng.integers(0, SPEAKERS, UTTERANCES))
    starts = np.searchsorted(speakers, np.arange(SPEAKERS + 1))
    enrolment = rng.integers(0, UTTERANCES, size)
    test = rng.integers(0, UTTERANCES, size)
    same = rng.random(size) < TARGET_SHARE
    own = speakers[enrolment[same]]
    test[same] = starts[own] + rng.integers(0, 1 << 30, len(own)) % (starts[own + 1] - starts[own])
    # In the order of their first appearance, as reading the list numbers them.
    rows, first, inverse = np.unique(
        np.stack([enrolment, test], axis=1), return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    pairs = rank[inverse].reshape(-1, 2)
    used = rows[order]
    names = tuple(f"id{10_000 + speakers[row]}/v/{row:06d}.wav" for row in used)
    targets = speakers[enrolment] == speakers[test]
    return Trials(names, pairs[:, 0], pairs[:, 1], targets), speakers[used]


def coverage() -> list[dict[str, Any]]:
    """How many of the 95 % intervals of simulated lists hold the truth.

    That is the EER of one system, and that two systems, which hear the same recordings, are equal.
    """
    rng = np.random.default_rng(0)
    lists = [simulated_list(rng, MANY_SPEAKERS) for _ in range(3)]
    truth = float(np.mean([eer(scores[0], labels) for scores, labels, _ in lists]))
    rows = []
    for speakers in LIST_SPEAKERS:
        ends = np.empty((LISTS, 2, 2))
        for found in ends:
            scores, labels, sides = simulated_list(rng, speakers)
            one, two = (
                bootstrap(own, labels, *sides, replicates=LIST_REPLICATES) for own in scores
            )
            gaps = np.subtract(one.resampled_eer_percent, two.resampled_eer_percent)
            found[:] = one.eer_percent, np.percentile(gaps, [2.5, 97.5])
        low, high = ends[..., 0], ends[..., 1]
        held = 100 * ((low <= [truth, 0.0]) & (high >= [truth, 0.0])).mean(axis=0)
        widths = (high - low).mean(axis=0).round(2)
        rows.append(
            {
                "speakers": speakers,
                "lists": LISTS,
                "true_eer_percent": round(truth, 2),
                "held_percent": float(held[0]),
                "mean_width_percent": float(widths[0]),
                "difference_held_percent": float(held[1]),
                "difference_mean_width_percent": float(widths[1]),
            }
        )
    return rows


def simulated_list(
    rng: np.random.Generator, speakers: int
) -> tuple[Array, Array, tuple[Array, Array]]:
    """Scores of two systems `(2, N)`, labels and both sides' speakers, of which some vary more.

    Eight utterances of each, all pairs within speakers and six times as many across, in 16
    dimensions. How an utterance deviates is partly the same for both systems (weight 0.8, of their
    own 0.6).
    """
    spread = 0.9 * np.exp(0.3 * rng.standard_normal((speakers, 1, 1)))
    voices = rng.standard_normal((speakers, 1, 16))
    shared, *own = rng.standard_normal((3, speakers, 8, 16))
    systems = [
        unit_length((voices + spread * (0.8 * shared + 0.6 * each)).reshape(-1, 16)) for each in own
    ]
    who = np.repeat(np.arange(speakers), 8)
    first, second = np.triu_indices(len(who), 1)
    same = who[first] == who[second]
    keep = same | (rng.random(len(same)) < 6 * same.sum() / (~same).sum())
    first, second = first[keep], second[keep]
    scores = np.stack([(rows[first] * rows[second]).sum(axis=1) for rows in systems])
    return scores, same[keep], (who[first], who[second])


def best(function: Callable[[], T], repetitions: int = REPETITIONS) -> tuple[float, T]:
    """The least processor time of some calls in seconds, and the result of the last."""
    times = []
    for _ in range(repetitions):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return round(min(times), 3), result


def main() -> None:
    """Measures, prints a table and writes JSON."""
    module = "sparsify.benchmarks.scoring"
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--output", type=Path, help="write the results here as JSON")
    options = parser.parse_args()
    rows = [measure(size) for size in SIZES]
    content: dict[str, Any] = {
        "command": command_line(),
        "machine": asdict(describe_machine()),
        "sizes": {
            "speakers": SPEAKERS,
            "cohort_speakers": COHORT,
            "dimensions": DIMENSIONS,
            "replicates": REPLICATES,
        },
        "rows": rows,
        "coverage": coverage(),
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print("| trials | utterances | read | cosine | AS-norm | EER, minDCF | bootstrap |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    parts = ("read", "cosine", "as_norm", "rates", "bootstrap")
    for row in rows:
        cells = " | ".join(f"{row[f'{part}_cpu_seconds']:.2f}" for part in parts)
        print(f"| {row['trials']:,} | {row['utterances']:,} | {cells} |")
    for held in content["coverage"]:
        print(
            f"{held['speakers']} speakers: {held['held_percent']:.1f} % of intervals hold the EER,"
            f" {held['difference_held_percent']:.1f} % that there is no difference"
        )


if __name__ == "__main__":
    main()
