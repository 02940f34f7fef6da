"""`sparsify benchmark`: how fast models are, engine by engine, against their dense twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sparsify.artifact.artifact import load_artifact
from sparsify.benchmarks.inference.benchmark import Benchmark, benchmark
from sparsify.benchmarks.inference.speedup import MIN_ROUNDS
from sparsify.cli.benchmark_display import machine_json, rows_json, show_benchmark
from sparsify.cli.display import emit_json, track
from sparsify.cli.gates import Gate, at_least, fail_if_any
from sparsify.cli.options import common_options, model_argument, trust_option

SEVERAL = "N[,N…]"
MIN_FRAMES = 2  # the standard deviation over time needs two


def counts(smallest: int) -> Callable[[click.Context, click.Parameter, str | None], Any]:
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
    callback=counts(1),
    metavar=SEVERAL,
    help="Threads per call; one, and all cores, if not given.",
)
@click.option(
    "--batch",
    "batches",
    callback=counts(1),
    metavar=SEVERAL,
    default="1",
    show_default=True,
    help="Utterances per call.",
)
@click.option(
    "--frames",
    callback=counts(MIN_FRAMES),
    metavar=SEVERAL,
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
    type=click.IntRange(min=MIN_ROUNDS),
    metavar="N",
    help="Turns of each candidate; as many as a few seconds allow if not given.",
)
@click.option(
    "--min-speedup",
    type=click.FloatRange(min=0, min_open=True),
    metavar="F",
    help="Fail (exit code 1) when the fastest engine of a model, by the lower end of its interval,"
    " is not that many times as fast as the dense twin.",
)
@trust_option
@common_options
def benchmark_command(
    *,
    paths: Sequence[Path],
    thread_counts: Sequence[int],
    batches: Sequence[int],
    frames: Sequence[int],
    engines: Sequence[str],
    rounds: int | None,
    min_speedup: float | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Measure how fast models are beside their dense twins.

    Each PATH is {models}. A file runs
    in the engine of its format; a run directory or a file without one is exported to every format
    that has an engine. Speed-ups are over the dense twin of the same network in onnxruntime. Every
    candidate has a process of its own; they take turns round by round, and a difference that may be
    noise is called level.
    """
    artifacts = [load_artifact(path, trust=trust) for path in dict.fromkeys(paths)]
    result = benchmark(
        artifacts,
        threads=thread_counts,
        batches=batches,
        frames=frames,
        engines=engines,
        rounds=rounds,
        track=track,
    )
    given = [str(artifact.path) for artifact in artifacts]
    gates = [] if min_speedup is None else [_gate(result, given, min_speedup)]
    if as_json:
        emit_json(
            {
                "machine": machine_json(result),
                "rows": rows_json(result),
                "left_out": list(result.left_out),
                "gates": [gate.to_json() for gate in gates],
            }
        )
    else:
        show_benchmark(result)
    fail_if_any(gates)


def _gate(result: Benchmark, given: Sequence[str], threshold: float) -> Gate:
    """Whether every model, in every setting, is as fast as it has to be in its fastest engine."""
    fastest = {path: result.fastest(path) for path in given}
    what = "the speed-up (the low end of its interval)"
    for path, rows in fastest.items():
        if not rows:
            doubt = f"'{path}' was not measured"
            return Gate("min_speedup", threshold, None, False, what, _times, doubt)
    value = min(row.speedup_low for rows in fastest.values() for row in rows)
    return at_least("min_speedup", threshold, value, what, _times)


def _times(speedup: float) -> str:
    return f"×{speedup:.2f}"
