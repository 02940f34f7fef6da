"""Candidates take turns, one computing at a time, in an order that is drawn in every round."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sparsify.benchmarks.inference.candidates import Candidate
from sparsify.benchmarks.inference.runner import Runner
from sparsify.errors import SparsifyError
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


class Field:
    """Candidates that take turns; one that fails no longer does, and the others go on.

    Attributes:
        runners: Those that still take turns.
        left_out: Sentences about those that failed.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self.runners = list(runners)
        self.left_out: list[str] = []

    @contextmanager
    def going_on_without(self, runner: Runner, *, unless: bool = False) -> Iterator[None]:
        """Takes out a candidate that fails in the block, and with a baseline its network.

        Raises:
            SparsifyError: It has failed, and no other network is left, or `unless`.
        """
        try:
            yield
        except SparsifyError as error:
            failed = runner.candidate
            self.runners.remove(runner)
            if failed.baseline:
                rest = [each for each in self.runners if each.candidate.network != failed.network]
                self.runners = rest
            if unless or not self.runners:
                raise
            self.left_out.append(f"Left out: {error}")


@contextmanager
def started(candidates: Sequence[Candidate], threads: int, track: Track) -> Iterator[Field]:
    """A process for every candidate, all of which end with the block.

    Raises:
        SparsifyError: One cannot read a file that was given, or no network can be compared.
    """
    with ExitStack() as stack:
        field_ = Field([stack.enter_context(Runner(each, threads)) for each in candidates])
        starting = list(field_.runners)
        for runner in track(starting, f"Starting, {threads_text(threads)}", len(starting)):
            with field_.going_on_without(runner, unless=runner.candidate.is_given):
                runner.wait()
        yield field_


def take_turns(
    taking_part: Field,
    batch: int,
    frames: int,
    rounds: int | None,
    track: Track,
    description: str,
) -> list[tuple[Candidate, Times]]:
    """Times all candidates on one shape of features; what fails meanwhile has no times.

    Args:
        taking_part: The candidates.
        batch: Utterances per call.
        frames: Frames per utterance.
        rounds: How many; by default as many as a few seconds allow, decided beforehand, as an
            interval needs that does not depend on what was seen.
        track: Reports progress.
        description: Of this setting.

    Raises:
        SparsifyError: All candidates have failed, died or do not answer.
    """
    start = time.monotonic()
    for runner in tuple(taking_part.runners):
        with taking_part.going_on_without(runner):
            runner.turn(batch, frames, CALLS)
    seconds = time.monotonic() - start
    count = rounds or min(_MOST, max(_FEWEST, int(_SECONDS / seconds)))
    order, drawn = list(taking_part.runners), random.Random(0)
    results = {runner: Times() for runner in order}
    for _ in track(range(count), description, count):
        drawn.shuffle(order)
        for runner in (each for each in tuple(order) if each in taking_part.runners):
            with taking_part.going_on_without(runner):
                times, peak_bytes = runner.turn(batch, frames, CALLS)
                results[runner].rounds.append(times)
                results[runner].peak_bytes = peak_bytes
    return [(runner.candidate, results[runner]) for runner in taking_part.runners]


def threads_text(threads: int) -> str:
    """A number of threads in words."""
    return f"{threads} thread{'s' if threads > 1 else ''}"
