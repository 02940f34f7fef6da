"""`sparsify data speech-mini`: the evaluation set that the project's figures are measured on."""

from __future__ import annotations

from pathlib import Path

import click

from sparsify.cli.display import emit_json, out, track
from sparsify.cli.options import common_options, output_option
from sparsify.corpus.speech_mini import build


@click.command(
    "speech-mini",
    epilog="""\b
    Example:
      sparsify data speech-mini --source speechocean762 --output speech-mini
    """,
)
@click.option(
    "--source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Root of speechocean762 (openslr.org/101), which holds the folder WAVE.",
)
@output_option("Folder to make of it.", metavar="DIR")
@common_options
def speech_mini_command(*, source: Path, output: Path, as_json: bool) -> None:
    """Build the evaluation set speech-mini from speechocean762.

    The set holds train/ (84 speakers), test/ and test_noisy/ (22 others, clean and corrupted),
    trials.txt and speakers.tsv.
    """
    counts = build(source, output, track=track)
    if as_json:
        emit_json({"output": str(output), "utterances": counts})
    else:
        described = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        out.print(f"Utterances in {output}: {described}", markup=False)
