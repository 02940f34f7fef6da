"""Candidates take turns, one computing at a time, in an order that is drawn in every round."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sparsify.benchmarks.inference.candidates import Candidate
from sparsify.benchmarks.inference.runner import Runner
from sparsify.progress import Track

CALLS = 3  # timed in a turn
_SECONDS = 5.0  # for all rounds of one setting, if the fewest take no longer
_FEWEST, _MOST = 12, 50


@dataclass
class Times:
    """What was measured of one candidate in one setting.

    Attributes:
        rounds: Milliseconds of the calls of each round.
        peak_bytes: Largest resident memory, above that of the process without the model.
    """

    rounds: list[list[float]] = field(default_factory=list)
    peak_bytes: int = 0


@contextmanager
def started(candidates: Sequence[Candidate], threads: int, track: Track) -> Iterator[list[Runner]]:
    """A process for every candidate, all of which end with the block.

    Raises:
        SparsifyError: One cannot read its file.
    """
    with ExitStack() as stack:
        runners = [stack.enter_context(Runner(each, threads)) for each in candidates]
        for runner in track(runners, f"Starting, {threads_text(threads)}", len(runners)):
            runner.wait()
        yield runners


def take_turns(
    runners: Sequence[Runner],
    batch: int,
    frames: int,
    rounds: int | None,
    track: Track,
    description: str,
) -> list[Times]:
    """Times all candidates on one shape of features.

    Args:
        runners: The candidates.
        batch: Utterances per call.
        frames: Frames per utterance.
        rounds: How many; by default as many as a few seconds allow, decided beforehand, as an
            interval needs that does not depend on what was seen.
        track: Reports progress.
        description: Of this setting.

    Raises:
        SparsifyError: A candidate has failed, died or does not answer.
    """
    start = time.monotonic()
    for runner in runners:
        runner.turn(batch, frames, CALLS)
    seconds = time.monotonic() - start
    count = rounds or min(_MOST, max(_FEWEST, int(_SECONDS / seconds)))
    order, drawn = list(range(len(runners))), random.Random(0)
    results = [Times() for _ in runners]
    for _ in track(range(count), description, count):
        drawn.shuffle(order)
        for index in order:
            times, peak_bytes = runners[index].turn(batch, frames, CALLS)
            results[index].rounds.append(times)
            results[index].peak_bytes = peak_bytes
    return results


def threads_text(threads: int) -> str:
    """A number of threads in words."""
    return f"{threads} thread{'s' if threads > 1 else ''}"
