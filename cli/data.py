"""`sparsify data`: what there is to know of a corpus before anybody trains on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from sparsify.cli.display import console, emit_json, out, say, say_next, track
from sparsify.corpus.corpus import describe
from sparsify.corpus.prepare import Prepared, prepare
from sparsify.recipe.words import CorpusLayout

_SHOWN = 5


def run(
    *, path: Path, output: Path, layout: CorpusLayout, verify: bool, strict: bool, as_json: bool
) -> None:
    """What `sparsify data prepare` does."""
    found = prepare(path, output, layout=layout, verify=verify, strict=strict, track=track)
    if as_json:
        emit_json(_summary(found, path, output, verify))
    else:
        out.print(_table(found))
        say(f"Saved to {output}")
    skipped = found.corpus.skipped
    for left_out in skipped[:_SHOWN]:
        console.print(f"Skipped {left_out.path}: {left_out.reason}", markup=False)
    if len(skipped) > _SHOWN:
        console.print(f"… and {len(skipped) - _SHOWN:,} more: {found.skipped_report}", markup=False)
    if not as_json:
        say_next("train", "--data", output, "--output", "run")


def _summary(found: Prepared, path: Path, output: Path, verify: bool) -> dict[str, Any]:
    return {
        "path": str(path),
        "output": str(output),
        **describe(found.corpus),
        "sample_rates": {str(rate): count for rate, count in found.sample_rates.items()},
        "seconds": found.seconds,
        "reasons": found.reasons,
        "skipped_report": None if found.skipped_report is None else str(found.skipped_report),
        "verified": verify,
    }


def _table(found: Prepared) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    summary = describe(found.corpus)
    table.add_row("layout", summary["layout"])
    table.add_row("speakers", f"{summary['speakers']:,}")
    table.add_row("utterances", f"{summary['utterances']:,}")
    table.add_row("hours", f"{summary['hours']:,.2f}")
    for rate, count in found.sample_rates.items():
        table.add_row(f"  at {rate:,} Hz", f"{count:,}")
    seconds = found.seconds
    table.add_row("shortest", f"{seconds['p0']:.1f} s")
    table.add_row("median", f"{seconds['p50']:.1f} s")
    table.add_row("longest", f"{seconds['p100']:.1f} s")
    table.add_row("skipped", f"{summary['skipped']:,}")
    for reason, count in list(found.reasons.items())[:_SHOWN]:
        table.add_row(f"  {reason}", f"{count:,}")
    return table
