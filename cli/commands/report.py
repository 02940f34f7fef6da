"""The options of `sparsify report`."""

from __future__ import annotations

from typing import Any

import click

from sparsify.cli.options import (
    baseline_option,
    benchmark_option,
    common_options,
    fail_if_option,
    max_eer_loss_option,
    output_option,
    speakers_option,
    trial_options,
    trust_option,
)


@click.command(
    "report",
    epilog="""\b
    Examples:
      sparsify report run --output report.html
      sparsify report runs/* --output report.html
      sparsify report comparison results.json --output both.html
      sparsify report monday tuesday --output results.json
      sparsify report scratch from-dense=other --output both.html   # gmp, gmp-from-dense …
      sparsify report sparse.onnx --baseline dense.onnx --trials trials.txt --audio-root test \\
          --max-eer-loss 0.5 --output summary.md
      sparsify report results.json --fail-if 'adabreg@0.9.eer_percent > dense.eer_percent + 0.5'
    """,
)
@click.argument("paths", nargs=-1, required=True, metavar="[NAME=]PATH...")
@output_option(
    "The file to write: a page (.html), or what compare writes (.json, .csv, .md).",
    "report.html",
    "FILE",
)
@baseline_option(
    "Measure each PATH, a model in any format, beside this one, and write a summary (.md)."
)
@trial_options(about="For --baseline: ")
@speakers_option
@max_eer_loss_option(
    "For --baseline: fail (exit code 1), with the summary written, when a model loses more points"
    " of EER."
)
@benchmark_option
@trust_option
@fail_if_option
@common_options
def report_command(**given: Any) -> None:
    """Write one page, or one table, about finished runs.

    A PATH is a run directory, the folder of a comparison or its results.json, wherever it was made;
    with NAME, which is added to its methods, they stay apart from others of the same name. The page
    is one file that opens offline: accuracy, sparsity and λ over training, layer-wise sparsity,
    sizes and training time.

    With --baseline every PATH is a model, in any format. The summary for a pull request begins with
    what it has lost and gained: EER with a paired interval, size and, with --benchmark, latency.
    """
    _check_usage(given)
    from sparsify.cli.report import run

    run(**given)


def _check_usage(given: dict[str, Any]) -> None:
    """Refuses options that belong to the other kind of report."""
    of_baseline = {
        "--trials": given["trial_list"],
        "--speakers": given["speakers"],
        "--max-eer-loss": given["max_eer_loss"] is not None,
        "--benchmark": given["measure_latency"],
        "--trust": given["trust"],
    }
    if given["baseline"] is None:
        if flag := next((flag for flag, each in of_baseline.items() if each), None):
            raise click.UsageError(f"{flag} has a meaning only with --baseline.")
    elif of_baseline["--trials"] is None:
        raise click.UsageError("--baseline needs --trials and --audio-root.")
    elif given["gates"]:
        raise click.UsageError("--fail-if is for runs: a baseline has --max-eer-loss.")
