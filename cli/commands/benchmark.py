"""The options of `sparsify benchmark`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from sparsify.cli.options import common_options, model_argument, trust_option
from sparsify.cli.types import Number
from sparsify.defaults import FEWEST_FRAMES, FEWEST_ROUNDS

_SEVERAL = "N[,N…]"


def _counts(smallest: int) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Reads several whole numbers, such as `50,200,1000`, none below the smallest."""

    def read(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, ...]:
        if text is None:
            return ()
        try:
            numbers = tuple(int(part) for part in text.split(","))
        except ValueError:
            raise click.BadParameter(f"'{text}' is no list of whole numbers such as 1,2.") from None
        if min(numbers) < smallest:
            raise click.BadParameter(f"{min(numbers)} is less than {smallest}.")
        return numbers

    return read


@click.command(
    "benchmark",
    epilog="""\b
    Examples:
      sparsify benchmark run
      sparsify benchmark model.onnx --threads 1,2 --frames 50,200,1000
      sparsify benchmark run --engine onnxruntime --json
      sparsify benchmark run --min-speedup 2 --threads 1
    """,
)
@model_argument(embedding=True, several=True)
@click.option(
    "--threads",
    "thread_counts",
    callback=_counts(1),
    metavar=_SEVERAL,
    help="Threads per call; one, and all cores, if not given.",
)
@click.option(
    "--batch",
    "batches",
    callback=_counts(1),
    metavar=_SEVERAL,
    default="1",
    show_default=True,
    help="Utterances per call.",
)
@click.option(
    "--frames",
    callback=_counts(FEWEST_FRAMES),
    metavar=_SEVERAL,
    default="200",
    show_default=True,
    help="Frames per utterance, of 10 ms.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="Measure in this engine only, besides the baseline; may be repeated.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=FEWEST_ROUNDS),
    metavar="N",
    help="Turns of each candidate; as many as a few seconds allow if not given.",
)
@click.option(
    "--min-speedup",
    type=Number(min=0, min_open=True),
    metavar="F",
    help="Fail (exit code 1) when the fastest engine of a model, by the lower end of its interval,"
    " is not that many times as fast as the dense twin.",
)
@trust_option
@common_options
def benchmark_command(**given: Any) -> None:
    """Measure how fast models are beside their dense twins.

    Each PATH is {models}. A file runs
    in the engine of its format; a run directory or a file without one is exported to every format
    that has an engine. Speed-ups are over the dense twin of the same network in onnxruntime. Every
    candidate has a process of its own; they take turns round by round, and a difference that may be
    noise is called level.
    """
    from sparsify.cli.benchmark import run

    run(**given)
