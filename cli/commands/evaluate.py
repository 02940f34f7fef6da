"""The options of `sparsify evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sparsify.cli.options import (
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
from sparsify.cli.types import PATH, Number
from sparsify.defaults import CONFIDENCE_PERCENT, TOP_N


def _cost_option(flag: str, error: str) -> Decorator:
    return click.option(
        flag,
        type=Number(0, min_open=True),
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
    type=Number(0, 1, min_open=True, max_open=True),
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
    type=Number(0, 100, min_open=True, max_open=True),
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
    type=Number(0, 100),
    help="Exit with code 1 when the EER in percent is higher.",
)
@baseline_option(
    "A model to compare with on the same trials, such as the dense one; the interval of the"
    f" difference is of level --confidence, {CONFIDENCE_PERCENT:g} if not given."
)
@max_eer_loss_option(
    "For --baseline: exit with code 1 when the EER in percent is higher by more than that."
)
@trust_option
@common_options
def evaluate_command(**given: Any) -> None:
    """Measure EER and minDCF on a trial list.

    PATH is {models}. Every utterance is embedded once, whole;
    scores are cosines, after mean subtraction and with AS-norm on request. A baseline is scored in
    the same way.
    """
    _check_usage(given)
    from sparsify.cli.evaluate import run

    run(**given)


def _check_usage(given: dict[str, Any]) -> None:
    """Refuses options that do nothing alone, and files that could not be written."""
    cohort, confidence, baseline = given["cohort"], given["confidence"], given["baseline"]
    if cohort is None and given["score_norm"]:
        raise click.UsageError("--score-norm needs --cohort.")
    if cohort is not None and not (given["score_norm"] or given["subtract_mean"]):
        raise click.UsageError("--cohort serves --subtract-mean or --score-norm: give one of them.")
    if given["max_eer_loss"] is not None and baseline is None:
        raise click.UsageError("--max-eer-loss needs --baseline.")
    if confidence is None and baseline is None and given["speakers"] is not None:
        raise click.UsageError("--speakers serves --confidence: give that, too.")
    if given["resampled"] and not ((confidence or baseline) and given["as_json"]):
        raise click.UsageError("--resampled serves --confidence with --json: give both.")
    if given["det"]:
        from sparsify.verification.det import check_det

        check_det(given["det"])
    if given["calibrate"]:
        from sparsify.verification.calibration import check_calibration

        check_calibration(given["calibrate"])
