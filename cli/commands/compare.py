"""The options of `sparsify compare`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from sparsify.cli.options import (
    benchmark_option,
    common_options,
    device_option,
    fail_if_option,
    output_option,
    speakers_option,
    trial_label_option,
    trial_paths,
    trust_option,
)
from sparsify.cli.recipe_options import recipe_options
from sparsify.cli.types import Assignment, Name
from sparsify.defaults import COMPARED_METHODS, COMPARED_SEEDS, COMPARED_TARGETS
from sparsify.methods.names import check_method, method_names

T = TypeVar("T")

_EPILOG = """\b
Examples:
  sparsify compare --output comparison               # synthetic speakers
  sparsify compare --data speech/train --methods dense,adabreg,gmp --targets 0.9,0.95 \\
      --seeds 0,1,2 --test clean=trials.txt:speech/test --test noisy=trials.txt:speech/noisy \\
      --output comparison --jobs 2
  sparsify compare --output comparison               # go on after a stop
  sparsify compare --data speech/train --init-from dense-run --methods adabreg,gmp \\
      --tune adabreg.lr=0.001,0.003,0.01 --tune gmp.lr=0.0003,0.001,0.003 --output from-dense
  sparsify compare --data speech/train --methods dense --widths 32,64,128 --output widths
  sparsify compare --methods adabreg --widths 128,256 --output widths  # is sparse and wide better?
  sparsify compare --output comparison \\
      --fail-if 'adabreg@0.9.eer_percent > dense.eer_percent + 0.5'
"""


def _listed(convert: Callable[[str], T], what: str) -> Callable[..., list[T] | None]:
    """A callback of click for a comma-separated list."""

    def parse(_: click.Context, parameter: click.Parameter, text: str | None) -> list[T] | None:
        if text is None:
            return None
        try:
            return [convert(part.strip()) for part in text.split(",")]
        except ValueError as error:
            raise click.BadParameter(f"'{text}' is not a list of {what}") from error

    return parse


@click.command("compare", epilog=_EPILOG)
@click.option(
    "--methods",
    type=Name(method_names, check_method, several=True),
    metavar="A,B,…",
    help=f"Of {', '.join(method_names())}.  [default: {','.join(COMPARED_METHODS)}]",
)
@click.option(
    "--targets",
    callback=_listed(float, "numbers"),
    metavar="F,F,…",
    help=f"Target sparsities.  [default: {','.join(map(str, COMPARED_TARGETS))}]",
)
@click.option(
    "--seeds",
    callback=_listed(int, "whole numbers"),
    metavar="N,N,…",
    help=f"Seeds of everything random.  [default: {','.join(map(str, COMPARED_SEEDS))}]",
)
@click.option(
    "--widths",
    callback=_listed(int, "whole numbers"),
    metavar="N,N,…",
    help="Widths of the network (its option channels), as in 64,128,256; all its layers follow in"
    " proportion.",
)
@recipe_options
@click.option(
    "--tune",
    "tunings",
    type=Assignment(lambda: [f"{name}." for name in method_names()]),
    multiple=True,
    metavar="METHOD.OPTION=V,V,…",
    help="Choose an option of a method first, from trainings at its first target, with the first"
    " seed, by the EER on validation speakers; may be repeated.",
)
@trial_paths()
@trial_label_option
@click.option(
    "--test",
    "tests",
    multiple=True,
    metavar="NAME=TRIALS:ROOT",
    help="A named trial list and its audio; may be repeated, the first one stands for a run.",
)
@speakers_option
@output_option("Folder of runs and results; what it holds is not done again.", "comparison", "DIR")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Runs at a time; one per GPU, or per two cores, if not given.",
)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where runs are trained: on this machine, or on the Ray cluster that it belongs to or that"
    " RAY_ADDRESS names.",
)
@device_option
@benchmark_option
@fail_if_option
@trust_option
@common_options
def compare_command(**given: Any) -> None:
    """Train methods side by side, evaluate them and report.

    Every method is trained at every target and width with every seed, on the same data in the same
    order and for as many steps. A comparison that was stopped goes on where it was; more methods,
    targets, seeds and widths may be added to one at any time. Writes results.json, results.csv,
    results.md and report.html. Latencies are those of the first seed.
    """
    from sparsify.cli.compare import run

    run(**given)
