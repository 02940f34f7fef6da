"""The options of `sparsify data speech-mini`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sparsify.cli.options import common_options, output_option


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
def speech_mini_command(**given: Any) -> None:
    """Build the evaluation set speech-mini from speechocean762.

    The set holds train/ (84 speakers), test/ and test_noisy/ (22 others, clean and corrupted),
    trials.txt and speakers.tsv.
    """
    from sparsify.cli.speech_mini import run

    run(**given)
