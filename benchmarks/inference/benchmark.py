"""Latency of artifacts: is a sparse model any faster than the same network without zeros?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.formats import written
from sparsify.audio.frames import SHIFT_SECONDS
from sparsify.audio.parallel import available_cores
from sparsify.benchmarks.inference.candidates import Candidate, Gathering
from sparsify.benchmarks.inference.speedup import ITSELF, Speedup, paired_speedup
from sparsify.benchmarks.inference.turns import Times, started, take_turns, threads_text
from sparsify.benchmarks.machine import Machine, describe_machine
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.networks import PYTORCH
from sparsify.progress import Track, silent

_VARIES = 1.5  # ratio of the ninth decile to the median that an idle machine does not have
BUSY = "The machine was busy: some times vary by more than half. Measure again when it is not."


@dataclass(frozen=True)
class Latency:
    """Latencies of one model in one engine.

    Attributes:
        engine: That of an exporter, or `pytorch` (eager, as context).
        artifact: `sparse`, or `dense` where no weight is zero; `shrunk` where it has fewer channels
            than its dense twin.
        precision: Type of the weights, `fp32`.
        threads: Threads per call.
        batch: Utterances per call.
        frames: Frames per utterance.
        median_ms: Median milliseconds per call.
        p90_ms: Ninth decile.
        min_ms: Fastest call.
        speedup: How many times as fast as the dense twin in onnxruntime with the same threads,
            batch and frames (see `paired_speedup`).
        speedup_low: Lower end of its interval of 95 %.
        speedup_high: Upper end.
        rtf: Real-time factor: seconds per call over seconds of speech in it.
        peak_bytes: Peak of resident memory while it computes, above that of the process with the
            engine and without the model.
        bytes: Size of the file.
        zipped_bytes: Its size after deflate.
        path: The artifact that was given.
        sparsity: Share of exact zeros among the prunable weights of what was measured.
    """

    engine: str
    artifact: str
    precision: str
    threads: int
    batch: int
    frames: int
    median_ms: float
    p90_ms: float
    min_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    rtf: float
    peak_bytes: int
    bytes: int
    zipped_bytes: int
    path: str
    sparsity: float

    @property
    def baseline(self) -> bool:
        """Whether it is what others are compared with."""
        return self.speedup_low == self.speedup_high == 1

    @property
    def level(self) -> bool:
        """Whether the difference from the baseline may be noise."""
        return self.speedup_low <= 1 <= self.speedup_high

    @property
    def varies(self) -> bool:
        """Whether times vary as they do on a machine that is busy with something else."""
        return self.p90_ms > _VARIES * self.median_ms


@dataclass(frozen=True)
class Benchmark:
    """Latencies and the machine they were measured on.

    Attributes:
        machine: Where.
        rows: By threads, batch and frames; in each of these the baseline of a network first.
        left_out: Sentences about what could not take part, or failed meanwhile.
        rounds: The milliseconds of each row, round by round.
    """

    machine: Machine
    rows: tuple[Latency, ...]
    left_out: tuple[str, ...] = ()
    rounds: tuple[Sequence[float], ...] = ()

    def baseline_of(self, row: Latency) -> Latency:
        """What a row is compared with: the baseline that stands before it."""
        before = self.rows[: self.rows.index(row) + 1]
        return next(each for each in reversed(before) if each.baseline)

    def speedup_over(self, row: Latency, other: Latency) -> Speedup:
        """How many times as fast a row is as another of the same setting, whatever their networks.

        Args:
            row: The one.
            other: What it is compared with.
        """
        if row is other:
            return ITSELF
        times, others = (self.rounds[self.rows.index(each)] for each in (row, other))
        return paired_speedup(times, others)

    def fastest(self, path: str) -> list[Latency]:
        """In every setting the fastest row of an artifact, dense twins and context left out."""
        own = [row for row in self.rows if row.path == path and row.engine != PYTORCH]
        own = [row for row in own if row.artifact != "dense"] or own
        best: dict[tuple[int, int, int], Latency] = {}
        for row in own:
            setting = (row.threads, row.batch, row.frames)
            if setting not in best or row.median_ms < best[setting].median_ms:
                best[setting] = row
        return list(best.values())


def benchmark(
    artifacts: Sequence[Artifact],
    *,
    threads: Sequence[int] = (),
    batches: Sequence[int] = (1,),
    frames: Sequence[int] = (200,),
    engines: Sequence[str] = (),
    rounds: int | None = None,
    source: Artifact | None = None,
    track: Track = silent,
) -> Benchmark:
    """Measures artifacts against the dense twin of their network in onnxruntime.

    Every candidate runs in a process of its own. They take turns, so that a busy moment of the
    machine hits them all; only one computes at a time.

    Args:
        artifacts: Files of any format with an engine, or models of ours in another, which are
            exported to all that have one.
        threads: Threads per call; by default one, and all cores.
        batches: Utterances per call.
        frames: Frames per utterance; 200 are 2 s.
        engines: The only ones to take part, besides the baseline; all by default.
        rounds: Turns of each candidate, of three timed calls; by default as many as a few seconds
            allow.
        source: The model that the artifacts were made from, where they alone do not make a dense
            twin in onnxruntime; without it, that is then in their own engine.
        track: Reports progress.

    Raises:
        SparsifyError: A model cannot be exported or read, or nothing can be run.
    """
    rows: list[Latency] = []
    turns: list[list[float]] = []
    with TemporaryDirectory() as folder:
        gathering = Gathering(Path(folder), engines)
        candidates = gathering.candidates(artifacts, track, source)
        for count in sorted(set(threads)) or sorted({1, available_cores()}):
            with started(candidates, count, track) as taking_part:
                for batch, length in _shapes(batches, frames):
                    setting = f"{threads_text(count)}, batch {batch}, {length} frames"
                    times = take_turns(taking_part, batch, length, rounds, track, setting)
                    rows += latencies(times, count, batch, length)
                    turns += [_medians(measured) for _, measured in times]
                gathering.left_out += taking_part.left_out
    measured = {row.engine for row in rows}
    exporters = {exporter_of(each).engine: exporter_of(each) for each in written()}
    versions = {name: each.version() for name, each in exporters.items() if name in measured}
    machine = describe_machine(versions)
    return Benchmark(machine, tuple(rows), tuple(gathering.left_out), tuple(turns))


def _shapes(batches: Sequence[int], frames: Sequence[int]) -> list[tuple[int, int]]:
    """The smallest first: an engine keeps the memory that a larger one took."""
    shapes = {(batch, length) for batch in batches for length in frames}
    return sorted(shapes, key=lambda shape: (shape[0] * shape[1], shape))


def latencies(
    results: Sequence[tuple[Candidate, Times]], threads: int, batch: int, frames: int
) -> Iterator[Latency]:
    """The rows of candidates that took turns, each network's baseline among them.

    Args:
        results: What was measured, and its times.
        threads: Threads per call.
        batch: Utterances per call.
        frames: Frames per utterance.
    """
    baselines: Mapping[int, list[float]] = {
        each.network: _medians(measured) for each, measured in results if each.baseline
    }
    for each, measured in results:
        calls = [call for turn in measured.rounds for call in turn]
        speedup = ITSELF
        if not each.baseline:
            speedup = paired_speedup(_medians(measured), baselines[each.network])
        median = float(np.median(calls))
        yield Latency(
            engine=each.engine,
            artifact=each.artifact,
            precision=each.precision,
            threads=threads,
            batch=batch,
            frames=frames,
            median_ms=median,
            p90_ms=float(np.quantile(calls, 0.9)),
            min_ms=min(calls),
            speedup=speedup.median,
            speedup_low=speedup.low,
            speedup_high=speedup.high,
            rtf=median / 1000 / (batch * frames * SHIFT_SECONDS),
            peak_bytes=measured.peak_bytes,
            bytes=each.bytes,
            zipped_bytes=each.zipped_bytes,
            path=str(each.given),
            sparsity=each.sparsity,
        )


def _medians(measured: Times) -> list[float]:
    return [float(np.median(turn)) for turn in measured.rounds]
