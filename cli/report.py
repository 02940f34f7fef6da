"""`sparsify report`: the HTML report of runs and comparisons."""

from __future__ import annotations

from pathlib import Path

import click

from sparsify.cli.display import emit_json, json_option, out, verbosity_options
from sparsify.cli.options import PATH
from sparsify.comparison.results import gather
from sparsify.files import check_writable
from sparsify.report.page import write_report


@click.command(
    "report",
    epilog="""\b
    Examples:
      sparsify report run --output report.html
      sparsify report runs/* --output report.html
      sparsify report comparison results.json --output both.html
    """,
)
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option(
    "--output",
    type=PATH,
    default=Path("report.html"),
    show_default=True,
    help="The HTML file.",
)
@json_option
@verbosity_options
def report_command(*, paths: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Write one HTML page about finished runs.

    PATHS are run directories, folders of comparisons and their results.json, wherever they were
    made. The page is one file that opens offline: accuracy, sparsity and λ
    over training, layer-wise sparsity, sizes and training time.
    """
    check_writable(output)
    results = gather(paths)
    write_report(results, output)
    if as_json:
        emit_json({"path": str(output), "runs": len(results["runs"])})
    else:
        out.print(f"Wrote {output}", markup=False, soft_wrap=True)
