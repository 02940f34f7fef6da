"""`sparsify data`: what there is to know of a corpus before anybody trains on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from rich.table import Table

from sparsify.cli.display import console, emit_json, out, track
from sparsify.cli.options import common_options, output_option, path_argument, strict_option
from sparsify.cli.speech_mini import speech_mini_command
from sparsify.corpus.corpus import describe
from sparsify.corpus.prepare import Prepared, prepare
from sparsify.recipe.sections import CorpusLayout

_SHOWN = 5

_EPILOG = """\b
Examples:
  sparsify data prepare VoxCeleb2/dev --output vox2.jsonl
  sparsify data prepare data/train --output train.csv --verify
  sparsify train --data vox2.jsonl --output run
"""


@click.group("data", epilog=_EPILOG)
def data_command() -> None:
    """Scan and check speech for training."""


data_command.add_command(speech_mini_command)


@data_command.command("prepare", epilog=_EPILOG)
@path_argument
@output_option(
    "The manifest to write, .jsonl or .csv; what is left out goes beside it, to .skipped.",
    metavar="FILE",
)
@click.option(
    "--layout",
    type=click.Choice(get_args(CorpusLayout)),
    default="auto",
    show_default=True,
    help="How the corpus is laid out.",
)
@click.option("--verify", is_flag=True, help="Decode every file to its end, to find broken ones.")
@strict_option
@common_options
def prepare_command(
    *, path: Path, output: Path, layout: CorpusLayout, verify: bool, strict: bool, as_json: bool
) -> None:
    """Scan a corpus once and write a manifest that `sparsify train --data` starts from at once.

    PATH is a folder with a folder per speaker, a VoxCeleb, CN-Celeb or LibriSpeech tree, a Kaldi
    data directory, a raw.list or shard.list of WeSpeaker, or a manifest.
    """
    found = prepare(path, output, layout=layout, verify=verify, strict=strict, track=track)
    if as_json:
        emit_json(_summary(found, path, output, verify))
    else:
        out.print(_table(found))
        out.print(f"Saved to {output}", markup=False)
    skipped = found.corpus.skipped
    for left_out in skipped[:_SHOWN]:
        console.print(f"Skipped {left_out.path}: {left_out.reason}", markup=False)
    if len(skipped) > _SHOWN:
        console.print(f"… and {len(skipped) - _SHOWN:,} more: {found.skipped_report}", markup=False)


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
