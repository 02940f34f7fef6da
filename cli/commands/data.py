"""The options of `sparsify data prepare`, and the group of all that `sparsify data` does."""

from __future__ import annotations

from typing import Any, get_args

import click

from sparsify.cli.commands.speech_mini import speech_mini_command
from sparsify.cli.options import common_options, output_option, strict_option
from sparsify.cli.types import Existing
from sparsify.recipe.words import CorpusLayout

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
@click.argument("path", type=Existing("no such file or folder: '{}'"))
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
def prepare_command(**given: Any) -> None:
    """Scan a corpus once and write a manifest.

    `sparsify train --data MANIFEST` starts from it at once.

    PATH is a folder with a folder per speaker, a VoxCeleb, CN-Celeb or LibriSpeech tree, a Kaldi
    data directory, a raw.list or shard.list of WeSpeaker, or a manifest.
    """
    from sparsify.cli.data import run

    run(**given)
