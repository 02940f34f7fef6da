"""The options of `sparsify inspect`."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from sparsify.cli.options import (
    common_options,
    max_macs_option,
    model_argument,
    trial_options,
    trust_option,
)
from sparsify.cli.types import PATH, Existing, Number, Share
from sparsify.defaults import SENSITIVITY_LEVELS

BY_SENSITIVITY = "sensitivity"
FOR_SENSITIVITY = {
    "trial_list": "--trials",
    "audio_root": "--audio-root",
    "levels": "--level",
    "utterances": "--utterances",
    "report": "--report",
}
SORTS = ("name", "size", "sparsity", BY_SENSITIVITY)


@click.command(
    "inspect",
    epilog="""\b
    Examples:
      sparsify inspect run
      sparsify inspect model.onnx --json
      sparsify inspect run --min-sparsity 0.9 --max-macs 0.2 --quiet
      sparsify inspect fine-tuned --compare run
      sparsify inspect run --sensitivity --trials trials.txt --audio-root test
    """,
)
@model_argument()
@click.option(
    "--min-sparsity",
    type=Share(),
    metavar="F",
    help="Fail (exit code 1) when less than this share of the prunable weights is zero.",
)
@click.option(
    "--max-sparsity",
    type=Share(),
    metavar="F",
    help="Fail (exit code 1) when more than this share of the prunable weights is zero.",
)
@max_macs_option(
    "Fail (exit code 1) when more than this share of the dense network's multiply-adds is left."
)
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    help="Order of the layers: by name, largest, sparsest or most sensitive first; as in the model"
    " if not given.",
)
@click.option(
    "--compare",
    "other",
    type=Existing("no such file: '{}'"),
    metavar="PATH",
    help="Show how the weights of each layer differ from those of another model of this network, or"
    " how many channels it has more or less.",
)
@click.option("--all", "show_all", is_flag=True, help="Show the other parameters, too.")
@click.option(
    "--sensitivity",
    "sensitive",
    is_flag=True,
    help="Prune every layer alone and measure what that does to the EER, of synthetic speakers if"
    " no trials are given.",
)
@trial_options(about="For --sensitivity: ")
@click.option(
    "--level",
    "levels",
    type=Number(0, 1, min_open=True, max_open=True),
    multiple=True,
    default=SENSITIVITY_LEVELS,
    show_default=True,
    help="For --sensitivity: a sparsity to prune every layer to; may be repeated.",
)
@click.option(
    "--utterances",
    type=click.IntRange(min=4),
    default=200,
    show_default=True,
    help="For --sensitivity: how many of the trial list to embed, drawn at random.",
)
@click.option(
    "--report",
    type=PATH,
    help="For --sensitivity: also write an HTML page with a heat map.",
)
@trust_option
@common_options
def inspect_command(**given: Any) -> None:
    """Show where a model is sparse, layer by layer.

    PATH is {models}. Prunable are the weights of
    convolutions and linear layers; in a file that is not ours, all tensors of two or more
    dimensions and more than 64 elements, integers against their zero point. No gate passes on a
    file of which something could not be counted, or with weights that are NaN or infinite.
    Multiply-adds are those with a weight, for two
    seconds of speech: a weight of a convolution counts once for every position of its output. With
    gates and --quiet one line tells the verdict.
    """
    _check_usage(given)
    from sparsify.cli.inspect import run

    run(**given)


def _check_usage(given: dict[str, Any]) -> None:
    """Refuses options that do nothing together."""
    sort, other, sensitive = given["sort"], given["other"], given["sensitive"]
    context = click.get_current_context()
    for name, flag in FOR_SENSITIVITY.items():
        if not sensitive and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{flag} has a meaning only with --sensitivity.")
    if sort == BY_SENSITIVITY and not sensitive:
        raise click.UsageError("--sort sensitivity needs --sensitivity.")
    if other and (sensitive or sort):
        raise click.UsageError("--compare shows no --sensitivity and knows no --sort.")
