"""The options of `sparsify plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sparsify.cli.options import (
    common_options,
    format_option,
    max_bytes_option,
    max_macs_option,
    precision_option,
    trust_option,
)
from sparsify.cli.recipe_options import set_option
from sparsify.cli.types import Name, Number
from sparsify.defaults import FEWEST_FRAMES
from sparsify.errors import SparsifyError, did_you_mean
from sparsify.models.names import model_names, names_code


def _check_model(model: str) -> None:
    """Refuses what is neither a file nor the name of a model."""
    if not (Path(model).exists() or names_code(model) or model in model_names()):
        raise SparsifyError(
            f"there is no file '{model}', and no model of that name:"
            f" {did_you_mean(model, model_names())}"
        )


@click.command(
    "plan",
    epilog="""\b
    Examples:
      sparsify plan ecapa-tdnn-512 --format native --max-ms 5 --max-bytes 3e6
      sparsify plan run --format mnn --max-ms 8 --threads 2
      sparsify plan resnet34 --format native --max-macs 0.1 --set model.ignore=[linear.weight]
    """,
)
@click.argument("model", metavar="MODEL", type=Name(model_names, _check_model, files=True))
@format_option()
@click.option(
    "--max-ms",
    type=Number(min=0, min_open=True),
    metavar="F",
    help="The most milliseconds that an utterance may take, in the median.",
)
@max_bytes_option("The most bytes of the file in that format")
@max_macs_option("The largest share of the dense network's multiply-adds that may be left.")
@precision_option()
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads per call.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=FEWEST_FRAMES),
    default=200,
    show_default=True,
    help="Frames of an utterance, of 10 ms.",
)
@set_option
@trust_option
@common_options
def plan_command(**given: Any) -> None:
    """Find the sparsity at which a model fits a budget.

    MODEL is a run directory, an artifact, the name of an architecture (see train --model) or
    module:factory. A few random masks, the same share of every layer, are exported in the format
    and take turns on this machine; the sparsity that comes out has itself been exported and
    measured. When nothing fits, the exit code is 1.
    """
    if all(given[budget] is None for budget in ("max_ms", "max_bytes", "max_macs")):
        raise click.UsageError("give a budget: --max-ms, --max-bytes or --max-macs.")
    from sparsify.cli.plan import run

    run(**given)
