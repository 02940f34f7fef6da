"""`sparsify evaluate`: error rates of a model, whatever its format, on a trial list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from sparsify.cli.display import emit_json, out, say, track
from sparsify.cli.evaluation_display import Baseline, confidence_json, table_of
from sparsify.cli.gates import Gate, at_most, decide, eer_loss_gate, verdict_alone
from sparsify.defaults import CONFIDENCE_PERCENT
from sparsify.errors import SparsifyError
from sparsify.exporters.speaker_model import SpeakerModel, load_speaker_model
from sparsify.verification.calibration import Calibration, write_calibration
from sparsify.verification.cohort import load_cohort
from sparsify.verification.det import write_det
from sparsify.verification.metrics import DetectionCost, OperatingPoints
from sparsify.verification.protocol import EvaluationProtocol, Outcome
from sparsify.verification.scoring import Scoring, scoring_with_cohort
from sparsify.verification.trials import TrialList, read_speakers, speaker_numbers


def run(
    *,
    path: Path,
    trial_list: TrialList,
    audio_root: Path,
    enroll: Path | None,
    subtract_mean: bool,
    score_norm: str | None,
    cohort: Path | None,
    top_n: int,
    p_targets: tuple[float, ...],
    c_miss: float,
    c_fa: float,
    corruption_seed: int | None,
    confidence: float | None,
    resampled: bool,
    speakers: Path | None,
    det: Path | None,
    calibrate: Path | None,
    threads: int | None,
    max_eer: float | None,
    baseline: Path | None,
    max_eer_loss: float | None,
    trust: bool,
    as_json: bool,
) -> None:
    """What `sparsify evaluate` does."""
    percent = CONFIDENCE_PERCENT if confidence is None and baseline else confidence
    costs = [DetectionCost(p_target, c_miss, c_fa) for p_target in dict.fromkeys(p_targets)]
    trials = trial_list.read(enroll)
    known = read_speakers(speakers) if speakers else None
    protocol = EvaluationProtocol(
        trials,
        audio_root,
        costs,
        corruption_seed,
        percent,
        None if percent is None else speaker_numbers(trials, known),
    )
    models = [load_speaker_model(each, threads, trust=trust) for each in (path, baseline) if each]
    outcome, *others = (
        protocol.outcome(
            model.embedder,
            model.front_end,
            partial(_scoring, model, cohort, top_n, subtract_mean, as_norm=score_norm is not None),
            track=track,
        )
        for model in models
    )
    result, points, scoring = outcome.result, outcome.points, outcome.scoring
    compared = None
    if baseline and others:
        compared = Baseline(baseline, others[0].result, outcome.loss_against(others[0]))
    gates = [*_gates(outcome, compared, max_eer, max_eer_loss)]
    if as_json:
        emit_json(
            {
                "path": str(path),
                **asdict(result),
                "min_dcfs": [asdict(c) | {"min_dcf": points.min_dcf(c)} for c in costs],
                "subtract_mean": subtract_mean,
                "score_norm": score_norm,
                "cohort_speakers": None if scoring.cohort is None else len(scoring.cohort),
                "corruption_seed": corruption_seed,
                "confidence": confidence_json(outcome.intervals, resampled=resampled),
                "baseline": compared.to_json() if compared else None,
                "gates": [gate.to_json() for gate in gates],
            }
        )
    elif not verdict_alone(gates):
        out.print(table_of(outcome, costs, compared))
    if det:
        write_det(points, det)
    if calibrate:
        thresholds = _thresholds(points, costs)
        write_calibration(Calibration(thresholds, scoring, models[0].digest), calibrate)
    files = [str(file) for file in (det, calibrate) if file]
    if files and not as_json:
        say(f"Wrote {' and '.join(files)}")
    decide(gates, as_json=as_json)


def _gates(
    outcome: Outcome, compared: Baseline | None, max_eer: float | None, max_loss: float | None
) -> Iterator[Gate]:
    if max_eer is not None:
        rate = outcome.result.eer_percent
        yield at_most("max_eer", max_eer, rate, "the EER", lambda value: f"{value:.5g}%")
    if compared and max_loss is not None:
        yield eer_loss_gate(max_loss, compared.loss)


def _scoring(
    model: SpeakerModel, cohort: Path | None, top_n: int, subtract_mean: bool, *, as_norm: bool
) -> Scoring:
    """The scoring that was asked for, with the cohort embedded."""
    if cohort is not None:
        speech = load_cohort(cohort, model.embedder, model.front_end, model.digest, track=track)
        return scoring_with_cohort(
            speech.embeddings,
            speech.speakers,
            subtract_mean=subtract_mean,
            as_norm=as_norm,
            top_n=top_n,
        )
    if not subtract_mean:
        return Scoring()
    mean = model.embedding_mean
    if mean is None:
        raise SparsifyError(
            f"'{model.artifact.path}' does not carry the mean embedding of its training speech:"
            " give --subtract-mean a --cohort"
        )
    return Scoring(mean)


def _thresholds(points: OperatingPoints, costs: Sequence[DetectionCost]) -> dict[str, float]:
    """By the names under which `sparsify verify --at` finds them."""
    named = {f"min-dcf-{cost.p_target!r}": points.min_dcf_threshold(cost) for cost in costs}
    return {"eer": points.eer_threshold(), **named}
