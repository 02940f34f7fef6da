"""`sparsify evaluate`: error rates of a model, whatever its format, on a trial list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from sparsify.cli.display import emit_json, out, track
from sparsify.cli.evaluation_display import Baseline, confidence_json, table_of
from sparsify.cli.gates import Gate, at_most, eer_loss_gate, fail_if_any
from sparsify.cli.options import (
    PATH,
    Decorator,
    baseline_option,
    common_options,
    max_eer_loss_option,
    model_argument,
    speakers_option,
    threads_option,
    trial_options,
    trust_option,
)
from sparsify.errors import SparsifyError
from sparsify.exporters.speaker_model import SpeakerModel, load_speaker_model
from sparsify.verification.calibration import Calibration, check_calibration, write_calibration
from sparsify.verification.cohort import load_cohort
from sparsify.verification.confidence import LEVEL
from sparsify.verification.det import check_det, write_det
from sparsify.verification.metrics import DetectionCost, OperatingPoints
from sparsify.verification.protocol import EvaluationProtocol, Outcome
from sparsify.verification.scoring import TOP_N, Scoring, scoring_with_cohort
from sparsify.verification.trials import TrialList, read_speakers, speaker_numbers


def _cost_option(flag: str, error: str) -> Decorator:
    return click.option(
        flag,
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        help=f"Cost of {error}, for minDCF.",
    )


@click.command(
    "evaluate",
    epilog="""\b
    Examples:
      sparsify evaluate run --trials trials.txt --audio-root test
      sparsify evaluate model.onnx --trials trials.txt --audio-root test --max-eer 5
      sparsify evaluate run --trials trials.txt --audio-root test --confidence 95
      sparsify evaluate model.onnx --trials trials.txt --audio-root test --baseline dense-run \\
          --max-eer-loss 0.5
      sparsify evaluate run --trials trials.txt --audio-root test --subtract-mean \\
          --score-norm as-norm --cohort train
    """,
)
@model_argument(embedding=True)
@trial_options(required=True)
@click.option(
    "--enroll",
    type=PATH,
    help="What the models in the trial list are enrolled with: one 'model utterance …' per line.",
)
@click.option(
    "--subtract-mean",
    is_flag=True,
    help="Subtract the cohort's mean embedding or, without --cohort, the one in the model file.",
)
@click.option("--score-norm", type=click.Choice(["as-norm"]), help="Normalise the scores.")
@click.option(
    "--cohort",
    type=click.Path(exists=True, path_type=Path),
    help="Speech of other speakers, such as the training set: whatever `sparsify train --data`"
    " reads, or its embeddings (.npz).",
)
@click.option(
    "--top-n",
    type=click.IntRange(min=2),
    default=TOP_N,
    show_default=True,
    help="Cohort speakers that AS-norm compares with.",
)
@click.option(
    "--p-target",
    "p_targets",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=(0.01,),
    show_default=True,
    multiple=True,
    help="Prior probability of a target trial, for minDCF; may be repeated.",
)
@_cost_option("--c-miss", "a miss")
@_cost_option("--c-fa", "a false alarm")
@click.option(
    "--corrupt",
    "corruption_seed",
    metavar="SEED",
    type=click.IntRange(min=0),
    help="Equalise every utterance and add noise to it, as this seed decides.",
)
@click.option(
    "--confidence",
    metavar="PERCENT",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    help="Also give intervals of this level, by resampling the speakers.",
)
@click.option(
    "--resampled",
    is_flag=True,
    help="For --confidence with --json: also the EER of every sample, to compare models on the same"
    " trials sample by sample.",
)
@speakers_option
@click.option("--det", type=PATH, help="Write the DET curve: .csv, or .png, .svg or .pdf.")
@click.option(
    "--calibrate",
    type=PATH,
    help="Write thresholds for `sparsify verify`, which looks for calibration.json beside a model.",
)
@threads_option
@click.option(
    "--max-eer",
    type=click.FloatRange(0, 100),
    help="Exit with code 1 when the EER in percent is higher.",
)
@baseline_option(
    "A model to compare with on the same trials, such as the dense one; the interval of the"
    f" difference is of level --confidence, {LEVEL:g} if not given."
)
@max_eer_loss_option(
    "For --baseline: exit with code 1 when the EER in percent is higher by more than that."
)
@trust_option
@common_options
def evaluate_command(
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
    """Measure EER and minDCF on a trial list.

    PATH is {models}. Every utterance is embedded once, whole;
    scores are cosines, after mean subtraction and with AS-norm on request. A baseline is scored in
    the same way.
    """
    if cohort is None and score_norm:
        raise click.UsageError("--score-norm needs --cohort.")
    if cohort is not None and not (score_norm or subtract_mean):
        raise click.UsageError("--cohort serves --subtract-mean or --score-norm: give one of them.")
    if max_eer_loss is not None and baseline is None:
        raise click.UsageError("--max-eer-loss needs --baseline.")
    percent = LEVEL if confidence is None and baseline else confidence
    if percent is None and speakers is not None:
        raise click.UsageError("--speakers serves --confidence: give that, too.")
    if resampled and not (percent and as_json):
        raise click.UsageError("--resampled serves --confidence with --json: give both.")
    if det:
        check_det(det)
    if calibrate:
        check_calibration(calibrate)
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
    if det:
        write_det(points, det)
    if calibrate:
        thresholds = _thresholds(points, costs)
        write_calibration(Calibration(thresholds, scoring, models[0].digest), calibrate)

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
    else:
        out.print(table_of(outcome, costs, compared))
    fail_if_any(gates)


def _gates(
    outcome: Outcome, compared: Baseline | None, max_eer: float | None, max_loss: float | None
) -> Iterator[Gate]:
    if max_eer is not None:
        rate = outcome.result.eer_percent
        yield at_most("max_eer", max_eer, rate, "the EER", lambda value: f"{value:.5g} %")
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
    named = {f"min-dcf-{cost.p_target:g}": points.min_dcf_threshold(cost) for cost in costs}
    return {"eer": points.eer_threshold(), **named}
