"""`sparsify report --baseline`: artifacts measured beside a baseline, for a pull request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.artifact.artifact import Artifact
from sparsify.benchmarks.inference.benchmark import Benchmark, benchmark
from sparsify.cli.display import track
from sparsify.cli.gates import Gate, eer_loss_gate
from sparsify.defaults import CONFIDENCE_PERCENT
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.files import size_bytes, zipped_bytes
from sparsify.report.summary import Measured, summary
from sparsify.verification.protocol import EvaluationProtocol
from sparsify.verification.trials import TrialList, read_speakers, speaker_numbers


@dataclass(frozen=True)
class Summary:
    """Models beside a baseline.

    Attributes:
        models: The baseline, then the others.
        latency: What their times mean, if they were measured.
    """

    models: Sequence[Measured]
    latency: str | None

    def text(self) -> str:
        """In Markdown."""
        baseline, *others = self.models
        return summary(baseline, others, self.latency)

    def gates(self, max_eer_loss: float | None) -> list[Gate]:
        """What no model may lose, if that is bounded."""
        if max_eer_loss is None:
            return []
        baseline, *others = self.models
        losses = {each.name: each.outcome.loss_against(baseline.outcome) for each in others}
        return [
            eer_loss_gate(max_eer_loss, loss, name if len(losses) > 1 else None)
            for name, loss in losses.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """As the command prints it."""
        baseline, *others = self.models
        return {
            "baseline": _as_json(baseline),
            "artifacts": [_as_json(each) | _loss_json(each, baseline) for each in others],
        }


def measure(
    paths: Sequence[Path],
    trial_list: TrialList,
    audio_root: Path,
    speakers: Path | None,
    *,
    latency: bool,
    trust: bool,
) -> Summary:
    """Evaluates models on the same trials, and measures their latency side by side on request.

    Args:
        paths: Run directories or files of any format, the baseline first.
        trial_list: The trials.
        audio_root: Folder of their audio.
        speakers: Who speaks in each utterance; the first folder of its name if not given.
        latency: Whether to measure the latency, too.
        trust: Whether code that files name as their network may be imported and run.

    Raises:
        SparsifyError: A file cannot be read or does not embed features, or audio is unusable.
    """
    trials = trial_list.read()
    sides = speaker_numbers(trials, read_speakers(speakers) if speakers else None)
    protocol = EvaluationProtocol(trials, audio_root, percent=CONFIDENCE_PERCENT, sides=sides)
    loaded = [load_speaker_model(path, trust=trust) for path in paths]
    outcomes = [protocol.outcome(each.embedder, each.front_end, track=track) for each in loaded]
    artifacts = [each.artifact for each in loaded]
    times = benchmark(artifacts, threads=(1,), track=track) if latency else None
    models = [
        Measured(str(path), outcome, *_sizes(artifact), **_latency(times, artifact, artifacts[0]))
        for path, outcome, artifact in zip(paths, outcomes, artifacts, strict=True)
    ]
    return Summary(models, _about(times) if times else None)


def _sizes(artifact: Artifact) -> tuple[int, int]:
    file = artifact.format.deployed_file(artifact.path)
    return size_bytes(file), zipped_bytes(file)


def _latency(times: Benchmark | None, artifact: Artifact, baseline: Artifact) -> dict[str, Any]:
    """What `Measured` holds of the engine that a model is fastest in, as far as it was measured."""
    if times is None:
        return {}
    rows, others = (times.fastest(str(each.path)) for each in (artifact, baseline))
    if not rows:
        return {}
    known: dict[str, Any] = {"engine": rows[0].engine, "milliseconds": rows[0].median_ms}
    if not others:
        return known
    found = times.speedup_over(rows[0], others[0])
    return known | {"speedup": (found.median, (found.low, found.high))}


def _about(times: Benchmark) -> str:
    machine, row = times.machine, times.rows[0]
    return (
        f"Latency: median for {row.frames} frames, one thread, in the engine where a model is"
        f" fastest; they took turns on {machine.cpu} ({machine.isa}), and are compared round by"
        " round. Level means that the difference may be noise."
    )


def _as_json(model: Measured) -> dict[str, Any]:
    outcome = model.outcome
    assert outcome.intervals is not None
    return {
        "path": model.name,
        "eer_percent": outcome.result.eer_percent,
        "eer_percent_interval": outcome.intervals.eer_percent,
        "min_dcf": outcome.result.min_dcf,
        "bytes": model.bytes,
        "zipped_bytes": model.zipped_bytes,
        "engine": model.engine,
        "median_ms": model.milliseconds,
        "speedup": model.speedup[0] if model.speedup else None,
        "speedup_interval": model.speedup[1] if model.speedup else None,
    }


def _loss_json(model: Measured, baseline: Measured) -> dict[str, Any]:
    loss = model.outcome.loss_against(baseline.outcome)
    return {"eer_loss": loss.eer, "eer_loss_interval": loss.interval}
