"""`sparsify evaluate`: error rates of a model, whatever its format, on a trial list."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from sparsify.cli.display import GateError, emit_json, out, track
from sparsify.cli.options import (
    PATH,
    Decorator,
    common_options,
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
from sparsify.verification.confidence import Confidence, bootstrap
from sparsify.verification.det import check_det, write_det
from sparsify.verification.evaluate import Evaluation, summarise, trial_embeddings
from sparsify.verification.metrics import DetectionCost, OperatingPoints, operating_points
from sparsify.verification.scoring import TOP_N, Scoring, scoring_with_cohort
from sparsify.verification.trials import read_speakers, read_trials, speaker_numbers


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
@trust_option
@common_options
def evaluate_command(
    *,
    path: Path,
    trial_list: Path,
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
    trust: bool,
    as_json: bool,
) -> None:
    """Measure EER and minDCF on a trial list.

    PATH is {models}. Every utterance is embedded once, whole;
    scores are cosines, after mean subtraction and with AS-norm on request.
    """
    if cohort is None and score_norm:
        raise click.UsageError("--score-norm needs --cohort.")
    if cohort is not None and not (score_norm or subtract_mean):
        raise click.UsageError("--cohort serves --subtract-mean or --score-norm: give one of them.")
    if confidence is None and speakers is not None:
        raise click.UsageError("--speakers serves --confidence: give that, too.")
    if resampled and not (confidence and as_json):
        raise click.UsageError("--resampled serves --confidence with --json: give both.")
    if det:
        check_det(det)
    if calibrate:
        check_calibration(calibrate)
    costs = [DetectionCost(p_target, c_miss, c_fa) for p_target in dict.fromkeys(p_targets)]
    trials = read_trials(trial_list, enroll)
    known = read_speakers(speakers) if speakers else None
    sides = None if confidence is None else speaker_numbers(trials, known)

    model = load_speaker_model(path, threads, trust=trust)
    start = time.perf_counter()
    embeddings = trial_embeddings(
        model.embedder,
        trials,
        audio_root,
        model.front_end,
        corruption_seed=corruption_seed,
        track=track,
    )
    scoring = _scoring(model, cohort, top_n, subtract_mean, as_norm=score_norm is not None)
    scores = scoring.scores(embeddings, trials, track=track)
    points = operating_points(scores, trials.targets)
    result = summarise(points, trials, costs[0], time.perf_counter() - start)
    intervals = None
    if confidence is not None and sides is not None:
        intervals = bootstrap(
            scores, trials.targets, *sides, costs, percent=confidence, track=track
        )
    if det:
        write_det(points, det)
    if calibrate:
        write_calibration(Calibration(_thresholds(points, costs), scoring, model.digest), calibrate)

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
                "confidence": _confidence(intervals, resampled=resampled),
            }
        )
    else:
        out.print(_table(result, points, costs, intervals))
    if max_eer is not None and result.eer_percent > max_eer:
        raise GateError(f"the EER is {result.eer_percent:.3f} %, above --max-eer {max_eer:g} %")


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


def _confidence(intervals: Confidence | None, *, resampled: bool) -> dict[str, Any] | None:
    if intervals is None:
        return None
    content = asdict(intervals)
    if not resampled:  # a thousand numbers
        del content["resampled_eer_percent"]
    return content


def _thresholds(points: OperatingPoints, costs: Sequence[DetectionCost]) -> dict[str, float]:
    """By the names under which `sparsify verify --at` finds them."""
    named = {f"min-dcf-{cost.p_target:g}": points.min_dcf_threshold(cost) for cost in costs}
    return {"eer": points.eer_threshold(), **named}


def _table(
    result: Evaluation,
    points: OperatingPoints,
    costs: Sequence[DetectionCost],
    intervals: Confidence | None,
) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    if intervals is None:
        ranges: list[tuple[Any, ...]] = [()] * (1 + len(costs))
    else:
        ranges = [intervals.eer_percent, *intervals.min_dcf]
        table.add_column(justify="right")
    table.add_row("EER", f"{result.eer_percent:.3f} %", *_interval(ranges[0], ".3f", " %"))
    for cost, interval in zip(costs, ranges[1:], strict=True):
        name = f"minDCF (p = {cost.p_target:g})"
        table.add_row(name, f"{points.min_dcf(cost):.4f}", *_interval(interval, ".4f"))
    if intervals:
        table.add_row("speakers", f"{intervals.speakers:,}", f"{intervals.percent:g} % intervals")
    table.add_row("trials", f"{result.trials:,}")
    table.add_row("  target", f"{result.targets:,}")
    table.add_row("  nontarget", f"{result.nontargets:,}")
    table.add_row("utterances", f"{result.utterances:,}")
    table.add_row("seconds", f"{result.seconds:.1f}")
    return table


def _interval(interval: Sequence[float], form: str, unit: str = "") -> list[str]:
    return [f"{interval[0]:{form}} – {interval[1]:{form}}{unit}"] if interval else []
