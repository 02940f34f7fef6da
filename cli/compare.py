"""`sparsify compare`: methods × targets × seeds × widths, trained alike, evaluated and reported."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from sparsify.audio.parallel import available_cores
from sparsify.cli.comparison_display import comparison_display, show_results
from sparsify.cli.comparison_gates import check_results, fail_if_option, gates_json
from sparsify.cli.comparison_plan import METHODS, SEEDS, TARGETS, plan_of
from sparsify.cli.display import console, emit_json, out, track
from sparsify.cli.options import (
    benchmark_option,
    common_options,
    device_option,
    output_option,
    speakers_option,
    trial_label_option,
    trial_paths,
    trust_option,
)
from sparsify.cli.recipe_options import recipe_options
from sparsify.comparison.compare import compare
from sparsify.comparison.gates import Gate
from sparsify.comparison.gathering import Part, gather
from sparsify.comparison.means import expected_metrics
from sparsify.comparison.results import read_results
from sparsify.comparison.runner import visible_gpus
from sparsify.methods.registry import method_names
from sparsify.models.registry import names_code
from sparsify.report.page import REPORT_FILE, write_report
from sparsify.training.devices import Device

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
    callback=_listed(str, "methods"),
    metavar="A,B,…",
    help=f"Of {', '.join(method_names())}.  [default: {','.join(METHODS)}]",
)
@click.option(
    "--targets",
    callback=_listed(float, "numbers"),
    metavar="F,F,…",
    help=f"Target sparsities.  [default: {','.join(map(str, TARGETS))}]",
)
@click.option(
    "--seeds",
    callback=_listed(int, "whole numbers"),
    metavar="N,N,…",
    help=f"Seeds of everything random.  [default: {','.join(map(str, SEEDS))}]",
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
@device_option
@benchmark_option
@fail_if_option
@trust_option
@common_options
def compare_command(
    *,
    output: Path,
    jobs: int | None,
    device: Device,
    measure_latency: bool,
    gates: Sequence[Gate],
    trust: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train methods side by side, evaluate them and report.

    Every method is trained at every target and width with every seed, on the same data in the same
    order and for as many steps. A comparison that was stopped goes on where it was; more methods,
    targets, seeds and widths may be added to one at any time. Writes results.json, results.csv,
    results.md and report.html. Latencies are those of the first seed.
    """
    plan = plan_of(output, given, shlex.join(["sparsify", *sys.argv[1:]]), trust=trust)
    names = [test.name for test in plan.tests]
    recipe = plan.recipe
    expected = expected_metrics(
        plan.runs,
        names,
        corrupted=recipe.augment.probability > 0,
        counted=not names_code(recipe.model.name),
    )
    for gate in gates:  # a typo is found before hours of training
        gate.check(expected)
    with _ended_like_interrupted():
        try:
            results = compare(
                plan,
                output,
                jobs=jobs or _default_jobs(len(plan.runs), device),
                device=device,
                measure_latency=measure_latency,
                trust=trust,
                display=partial(comparison_display, console),
                track=track,
            )
        except KeyboardInterrupt:
            folder = shlex.quote(str(output))
            hint = f"sparsify compare --output {folder} goes on"
            if read_results(output) is not None:
                write_report(gather([Part(output)]), output / REPORT_FILE)
                hint += f", {output / REPORT_FILE} shows what is complete"
            console.print(hint, markup=False, soft_wrap=True)
            raise
    write_report(results, output / REPORT_FILE)
    if as_json:
        emit_json(results | {"gates": gates_json(results, gates)})
    else:
        show_results(results)
        out.print(f"\nSaved to {output / REPORT_FILE}", markup=False, soft_wrap=True)
    check_results(results, gates)


def _default_jobs(runs: int, device: Device) -> int:
    """Small networks gain little from a second core, and processes share nothing."""
    gpus = [] if device == "cpu" else visible_gpus()
    return max(1, min(runs, len(gpus) or available_cores() // 2))


@contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """Being terminated stops the runs as Ctrl-C does, so that none goes on alone.

    What was told to ignore a signal, as by nohup, goes on doing so.
    """
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
        elif number == signal.SIGINT:
            # Shells do this to what they start in the background. The runs, which are ended by this
            # signal, would inherit ignoring it, but not a handler that does nothing.
            signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
