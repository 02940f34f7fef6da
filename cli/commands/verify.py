"""The options of `sparsify verify`."""

from __future__ import annotations

from typing import Any

import click

from sparsify.cli.options import (
    calibration_option,
    common_options,
    model_argument,
    operating_point_option,
    threads_option,
    trust_option,
)
from sparsify.cli.types import Existing

_AUDIO = Existing("cannot read {}: no such file; check the path")


@click.command(
    "verify",
    epilog="""\b
    Examples:
      sparsify verify run enrol.wav test.wav
      sparsify verify model.onnx enrol.wav test.wav --threshold 0.4 --require-match
      sparsify verify run enrol.wav test.wav --at min-dcf-0.01 --json
    """,
)
@model_argument(embedding=True)
@click.argument("enrolment", type=_AUDIO)
@click.argument("test", type=_AUDIO)
@click.option("--threshold", type=float, help="Cosine from which on the speaker is the same.")
@calibration_option
@operating_point_option
@click.option(
    "--require-match", is_flag=True, help="Exit with code 1 when the speakers are different."
)
@threads_option
@trust_option
@common_options
def verify_command(**given: Any) -> None:
    """Score two recordings and say whether the speaker is the same.

    PATH is {models}. With a calibration the score is computed as
    it was calibrated (mean subtraction, AS-norm); otherwise it is the cosine. The exit code is 0
    whatever the answer, unless --require-match is given.
    """
    threshold = given["threshold"]
    if threshold is not None and given["calibration"] is not None:
        raise click.UsageError("--threshold and --calibration exclude each other.")
    if threshold is not None and given["operating_point"] is not None:
        raise click.UsageError("--threshold and --at exclude each other.")
    if threshold is not None and not -1 <= threshold <= 1:
        raise click.UsageError(f"--threshold must be a cosine, from -1 to 1, got {threshold:g}.")
    from sparsify.cli.verify import run

    run(**given)
