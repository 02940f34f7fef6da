"""`sparsify report`: of runs and comparisons wherever they were made, or against a baseline."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import click

from sparsify.cli.comparison_gates import check_results, fail_if_option, gates_json
from sparsify.cli.display import emit_json, out
from sparsify.cli.gates import fail_if_any
from sparsify.cli.options import (
    baseline_option,
    benchmark_option,
    common_options,
    max_eer_loss_option,
    output_option,
    speakers_option,
    trial_options,
    trust_option,
)
from sparsify.cli.report_summary import Summary, measure
from sparsify.comparison.gates import Gate
from sparsify.comparison.gathering import Part, gather
from sparsify.comparison.means import gate_metrics
from sparsify.comparison.results import results_json
from sparsify.comparison.text_tables import to_csv, to_markdown
from sparsify.errors import SparsifyError
from sparsify.files import check_writable, write_text
from sparsify.report.page import write_report
from sparsify.verification.trials import TrialList

TEXTS = {".json": results_json, ".csv": to_csv, ".md": to_markdown}


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
def report_command(
    *,
    paths: tuple[str, ...],
    output: Path,
    baseline: Path | None,
    trial_list: TrialList | None,
    audio_root: Path | None,
    speakers: Path | None,
    max_eer_loss: float | None,
    measure_latency: bool,
    trust: bool,
    gates: Sequence[Gate],
    as_json: bool,
) -> None:
    """Write one page, or one table, about finished runs.

    A PATH is a run directory, the folder of a comparison or its results.json, wherever it was made;
    with NAME, which is added to its methods, they stay apart from others of the same name. The page
    is one file that opens offline: accuracy, sparsity and λ over training, layer-wise sparsity,
    sizes and training time.

    With --baseline every PATH is a model, in any format. The summary for a pull request begins with
    what it has lost and gained: EER with a paired interval, size and, with --benchmark, latency.
    """
    of_baseline = {
        "--trials": trial_list,
        "--speakers": speakers,
        "--max-eer-loss": max_eer_loss is not None,
        "--benchmark": measure_latency,
        "--trust": trust,
    }
    _check_usage(baseline, of_baseline, gates)
    if baseline and trial_list and audio_root:
        measured = partial(
            measure,
            [baseline, *dict.fromkeys(map(Path, paths))],
            trial_list,
            audio_root,
            speakers,
            latency=measure_latency,
            trust=trust,
        )
        _write_summary(output, measured, max_eer_loss, as_json=as_json)
        return
    if output.suffix not in (".html", *TEXTS):
        raise SparsifyError(
            f"'{output}' tells no format: let --output end in .html, .json, .csv or .md"
        )
    check_writable(output)
    results = gather([_part(path) for path in paths])
    known = gate_metrics(results["runs"])
    for gate in gates:
        gate.check(known)
    if output.suffix in TEXTS:
        write_text(output, TEXTS[output.suffix](results))
    else:
        write_report(results, output)
    if as_json:
        decided = gates_json(results, gates)
        emit_json({"path": str(output), "runs": len(results["runs"]), "gates": decided})
    else:
        out.print(f"Wrote {output}", markup=False, soft_wrap=True)
    if gates:
        check_results(results, gates)


def _check_usage(
    baseline: Path | None, of_baseline: Mapping[str, object], gates: Sequence[Gate]
) -> None:
    """Refuses options that belong to the other kind of report."""
    if baseline is None:
        if flag := next((flag for flag, given in of_baseline.items() if given), None):
            raise click.UsageError(f"{flag} has a meaning only with --baseline.")
    elif of_baseline["--trials"] is None:
        raise click.UsageError("--baseline needs --trials and --audio-root.")
    elif gates:
        raise click.UsageError("--fail-if is for runs: a baseline has --max-eer-loss.")


def _write_summary(
    output: Path,
    measured: Callable[[], Summary],
    max_eer_loss: float | None,
    *,
    as_json: bool,
) -> None:
    """Writes what models have lost and gained, once it is clear that the file can be written."""
    if output.suffix != ".md":
        raise SparsifyError(f"a summary cannot be '{output}': let --output end in .md")
    check_writable(output)
    found = measured()
    write_text(output, found.text())
    gates = found.gates(max_eer_loss)
    if as_json:
        decided = [gate.to_json() for gate in gates]
        emit_json({"path": str(output), **found.to_json(), "gates": decided})
    else:
        out.print(f"Wrote {output}", markup=False, soft_wrap=True)
    fail_if_any(gates)


def _part(text: str) -> Part:
    """`NAME=PATH` or a path, which may have an equals sign of its own."""
    named = re.fullmatch(r"([A-Za-z]\w*(?:-\w+)*)=(.+)", text)
    if named is None or Path(text).exists():
        return Part(Path(text))
    return Part(Path(named[2]), named[1])
