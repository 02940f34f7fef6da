"""The options of `sparsify train`."""

from __future__ import annotations

import os
from typing import Any, get_args

import click

from sparsify.cli.options import (
    common_options,
    device_option,
    output_option,
    strict_option,
    trust_option,
)
from sparsify.cli.recipe_options import recipe_options
from sparsify.cli.types import Name, Share
from sparsify.methods.names import check_method, method_names
from sparsify.recipe.words import SteeringRule
from sparsify.training.run_files import RunFiles

_EPILOG = """\b
Examples:
  sparsify train --output run                      # synthetic speakers, 90%
  sparsify train --data speech/train --target-sparsity 0.95 --output run
  sparsify train --data speech/train --target-macs 0.1 --output run
  sparsify train --data speech/train --method gmp --set training.steps=2000 --output run
  sparsify train --data speech/train --init-from dense-run --output sparse-run
  sparsify train --data speech/train --init-from sparse.onnx --output fine-tuned    # its zeros held
  torchrun --nproc-per-node=4 -m sparsify train --data speech/train --output run
"""


@click.command("train", epilog=_EPILOG)
@recipe_options
@click.option(
    "--method",
    type=Name(method_names, check_method),
    help=f"Way to get sparse: {', '.join(method_names())}.",
)
@click.option(
    "--target-sparsity",
    type=Share(between=True),
    metavar="F",
    help="Share of exact zeros among the prunable weights; that of a sparse --init-from, else 0.9.",
)
@click.option(
    "--target-macs",
    type=Share(between=True),
    metavar="F",
    help="In place of a sparsity, the share of the dense network's multiply-adds that is left.",
)
@click.option(
    "--lambda-rule",
    type=click.Choice(get_args(SteeringRule)),
    help="How λ is steered (Bregman methods).",
)
@click.option("--seed", type=int, help="Seed of everything random.")
@output_option("The run directory.", "run", "DIR")
@click.option("--resume", is_flag=True, help="Continue the run in --output from its checkpoint.")
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Resume though recipe.yaml or the speech are not those that the run began with.",
)
@strict_option
@device_option
@trust_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show recipe, parameters, data, time and memory (takes a few steps), and write nothing.",
)
@common_options
def train_command(**given: Any) -> None:
    """Train a speaker model to an exact sparsity.

    Under torchrun all processes train one model together; the first of them writes.
    """
    if given["accept_changes"] and not given["resume"]:
        raise click.UsageError("--accept-changes goes with --resume.")
    if given["target_sparsity"] is not None and given["target_macs"] is not None:
        raise click.UsageError("--target-sparsity and --target-macs exclude each other: give one.")
    if "RANK" not in os.environ:  # of torchrun's processes only the first has the directory
        files = RunFiles(given["output"])
        files.check_begun() if given["resume"] else files.check_free()
    from sparsify.cli.train import run

    run(**given)
