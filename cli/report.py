"""`sparsify report`: a report of runs and comparisons, wherever they were made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from sparsify.cli.comparison_gates import check_results, fail_if_option, gates_json
from sparsify.cli.display import emit_json, out
from sparsify.cli.options import common_options, output_option
from sparsify.comparison.gates import Gate
from sparsify.comparison.gathering import Part, gather
from sparsify.comparison.means import gate_metrics
from sparsify.comparison.results import results_json
from sparsify.comparison.text_tables import to_csv, to_markdown
from sparsify.errors import SparsifyError
from sparsify.files import check_writable, write_text
from sparsify.report.page import write_report

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
      sparsify report results.json --fail-if 'adabreg@0.9.eer_percent > dense.eer_percent + 0.5'
    """,
)
@click.argument("paths", nargs=-1, required=True, metavar="[NAME=]PATH...")
@output_option(
    "The file to write: a page (.html), or what compare writes (.json, .csv, .md).",
    "report.html",
    "FILE",
)
@fail_if_option
@common_options
def report_command(
    *, paths: tuple[str, ...], output: Path, gates: Sequence[Gate], as_json: bool
) -> None:
    """Write one page, or one table, about finished runs.

    A PATH is a run directory, the folder of a comparison or its results.json, wherever it was made;
    with NAME, which is added to its methods, they stay apart from others of the same name. The page
    is one file that opens offline: accuracy, sparsity and λ over training, layer-wise sparsity,
    sizes and training time.
    """
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


def _part(text: str) -> Part:
    """`NAME=PATH` or a path, which may have an equals sign of its own."""
    named = re.fullmatch(r"([A-Za-z]\w*(?:-\w+)*)=(.+)", text)
    if named is None or Path(text).exists():
        return Part(Path(text))
    return Part(Path(named[2]), named[1])
