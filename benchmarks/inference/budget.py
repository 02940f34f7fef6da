"""Which sparsity a budget asks for: random masks in one format, measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.formats import DENSE, Format
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.rounding import rounded
from sparsify.benchmarks.inference.benchmark import Latency, latencies
from sparsify.benchmarks.inference.candidates import Candidate, candidate_of
from sparsify.benchmarks.inference.turns import started, take_turns, threads_text
from sparsify.benchmarks.machine import Machine, describe_machine
from sparsify.errors import SparsifyError
from sparsify.exporters.counting import count_work
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.twin import dense_weights
from sparsify.progress import Track, silent
from sparsify.sparsity.masks import largest_masks
from sparsify.sparsity.prunable import prunable_parameters

GRID = (0.0, 0.75, 0.9, 0.97, 0.995)
"""The sparsities that are measured first."""
_STEPS = ((0.99, 1e-3), (1.0, 1e-4))  # up to which sparsity answers are rounded to what
_TRIES = 2  # candidates between two of the grid

MAX_MS, MAX_BYTES, MAX_MACS = "max_ms", "max_bytes", "max_macs"


@dataclass(frozen=True)
class Fit:
    """A random mask that was exported and measured.

    Attributes:
        latency: How fast it is, and how large; its speed-up is over the network without zeros in
            the same engine.
        macs: Share of the multiply-adds that is left; `None` where they are not known.
    """

    latency: Latency
    macs: float | None

    @property
    def sparsity(self) -> float:
        """Share of exact zeros among the prunable weights."""
        return self.latency.sparsity

    def value(self, limit: str) -> float:
        """What a limit is about: milliseconds, bytes, or a share of multiply-adds."""
        if limit == MAX_MACS:
            assert self.macs is not None  # looked at before
            return self.macs
        return self.latency.median_ms if limit == MAX_MS else self.latency.bytes

    def fits(self, limits: Mapping[str, float]) -> bool:
        """Whether no limit is exceeded."""
        return all(self.value(limit) <= most for limit, most in limits.items())


@dataclass(frozen=True)
class Budget:
    """What was measured, and what fits.

    Attributes:
        machine: Where.
        fits: All masks, the densest first.
        answer: The densest that was found to fit; `None` if none does.
    """

    machine: Machine
    fits: tuple[Fit, ...]
    answer: Fit | None

    @property
    def best(self) -> Fit:
        """The answer, or the sparsest of all that do not fit."""
        return self.answer or self.fits[-1]


def sparsity_for(
    artifact: Artifact,
    format_: Format,
    limits: Mapping[str, float],
    *,
    precision: str,
    threads: int = 1,
    frames: int = 200,
    track: Track = silent,
) -> Budget:
    """Finds the least sparsity at which a network fits a budget.

    Masks of the sparsities in `GRID` are drawn, all of which keep the same share of every layer;
    they are exported and take turns, each in a process of its own. Between the last that does not
    fit and the first of those that do, the sparsity is interpolated in the share of weights left.
    What comes out is exported and measured in its turn: the answer is always one that was measured.

    Args:
        artifact: A model whose network can be built; its zeros are filled.
        format_: What it is exported to.
        limits: The most milliseconds a call, bytes of the file and share of multiply-adds may be,
            by `MAX_MS`, `MAX_BYTES` and `MAX_MACS`; one at least.
        precision: Type of the weights.
        threads: Threads per call.
        frames: Frames of an utterance.
        track: Reports progress.

    Raises:
        SparsifyError: The model cannot be exported, run, or counted where that is a limit.
    """
    with TemporaryDirectory() as folder:
        series = _Series(artifact, format_, precision, threads, frames, Path(folder), track)
        if MAX_MACS in limits and series.macs_of(0.0) is None:
            raise SparsifyError(
                f"--max-macs: the multiply-adds of '{artifact.path}' are not known, see sparsify"
                " inspect"
            )
        known = dict(zip(GRID, series.measured(GRID), strict=True))
        for _ in range(_TRIES):
            guess = _between(_ordered(known), limits)
            if guess is None or guess in known:
                break
            known[guess] = series.measured([0.0, guess])[-1]
            if known[guess].fits(limits):
                break
    ordered = _ordered(known)
    first = _first_of_those_that_fit(ordered, limits)
    engine = exporter_of(format_)
    machine = describe_machine({engine.engine: engine.version()})
    return Budget(machine, tuple(ordered), None if first is None else ordered[first])


def _ordered(known: Mapping[float, Fit]) -> list[Fit]:
    return [known[sparsity] for sparsity in sorted(known)]


def _first_of_those_that_fit(ordered: Sequence[Fit], limits: Mapping[str, float]) -> int | None:
    """The place from which on all fit, the sparsest being the last."""
    place = len(ordered)
    while place and ordered[place - 1].fits(limits):
        place -= 1
    return place if place < len(ordered) else None


def _between(ordered: Sequence[Fit], limits: Mapping[str, float]) -> float | None:
    """A sparsity that should just fit, between one that was measured to and one that was not to."""
    first = _first_of_those_that_fit(ordered, limits)
    if not first:  # none fits, or the dense network does
        return None
    denser, sparser = ordered[first - 1], ordered[first]
    left = min(_left_at(denser, sparser, limit, most) for limit, most in limits.items())
    sparsity = 1 - left
    step = next(step for until, step in _STEPS if sparsity < until)
    sparsity = ceil(round(sparsity / step, 6)) * step
    sparsity = round(max(sparsity, denser.sparsity + step), 6)
    return sparsity if sparsity < sparser.sparsity else None


def _left_at(denser: Fit, sparser: Fit, limit: str, most: float) -> float:
    """The share of weights left at which a limit is reached, between two masks."""
    high, low = denser.value(limit), sparser.value(limit)
    if high <= most:
        return 1 - denser.sparsity
    share = (most - low) / (high - low)
    return 1 - sparser.sparsity + share * (sparser.sparsity - denser.sparsity)


class _Series:
    """Random masks of one network, each a part of those that are denser."""

    def __init__(
        self,
        artifact: Artifact,
        format_: Format,
        precision: str,
        threads: int,
        frames: int,
        folder: Path,
        track: Track,
    ) -> None:
        self._artifact, self._format, self._precision = artifact, format_, precision
        self._exporter = exporter_of(format_)  # the same for all, so that it may know the network
        self._threads, self._frames = threads, frames
        self._folder, self._track = folder, track
        dense = artifact.state | dense_weights(artifact)
        names = list(prunable_parameters(artifact.build(), *artifact.selection))
        generator = torch.Generator().manual_seed(0)
        self._scores = {n: torch.rand(dense[n].shape, generator=generator) for n in names}
        self._dense = dense
        self._files: dict[float, Candidate] = {}
        self._macs: dict[float, float | None] = {}

    def macs_of(self, sparsity: float) -> float | None:
        """Share of the multiply-adds that is left at a sparsity."""
        masked = self._masked(sparsity)
        work = count_work(masked).of(weights_table(masked).layers)
        if work is None:
            return None
        return (work.multiply_adds - work.by_zeros) / max(work.multiply_adds, 1)

    def measured(self, sparsities: Sequence[float]) -> list[Fit]:
        """The masks of some sparsities, the first of them that of the dense network."""
        missing = [each for each in sparsities if each not in self._files]
        what = f"Exporting to {self._format.name}"
        for sparsity in self._track(missing, what, len(missing)):
            self._files[sparsity] = self._export(sparsity)
            self._macs[sparsity] = self.macs_of(sparsity)
        candidates = [self._files[sparsity] for sparsity in sparsities]
        candidates[0] = replace(candidates[0], baseline=True)
        setting = f"Measuring, {threads_text(self._threads)}, {self._frames} frames"
        with started(candidates, self._threads, self._track) as taking_part:
            times = take_turns(taking_part, 1, self._frames, None, self._track, setting)
        if taking_part.left_out:
            raise SparsifyError(taking_part.left_out[0])
        rows = latencies(times, self._threads, 1, self._frames)
        return [
            Fit(row, self._macs[sparsity]) for row, sparsity in zip(rows, sparsities, strict=True)
        ]

    def _masked(self, sparsity: float) -> Artifact:
        scores = list(self._scores.values())
        masks = largest_masks(scores, sparsity, allocation="uniform")
        zeroed = dict(zip(self._scores, masks, strict=True))
        state = {name: _zeroed(each, zeroed.get(name)) for name, each in self._dense.items()}
        return self._artifact.with_state(state)

    def _export(self, sparsity: float) -> Candidate:
        place = self._folder / f"{sparsity:g}"
        place.mkdir()
        suffixes = self._format.suffixes
        path = place / f"model{suffixes[0] if suffixes else ''}"
        exporter = self._exporter
        exporter.write(rounded(self._masked(sparsity), self._precision), path, DENSE)
        written = load_artifact(path, trust=self._artifact.trusted)
        if obstacle := exporter.obstacle(written):
            raise SparsifyError(f"the {self._format.name} export does not run here: {obstacle}")
        return candidate_of(written, self._artifact.path)


def _zeroed(weight: Tensor, mask: Tensor | None) -> Tensor:
    return weight if mask is None else weight * mask
