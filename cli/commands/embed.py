"""The options of `sparsify embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sparsify.cli.options import (
    common_options,
    model_argument,
    output_option,
    threads_option,
    trust_option,
)
from sparsify.cli.types import Existing


@click.command(
    "embed",
    epilog="""\b
    Examples:
      sparsify embed run enrol.wav test.wav --output embeddings.jsonl
      sparsify embed model.onnx speech/train --output train.npz
      sparsify embed run vox2.jsonl --output vox2.npz
      sparsify embed run --list wav.scp --output embeddings.ark
    """,
)
@model_argument(embedding=True)
@click.argument("inputs", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--list",
    "list_file",
    type=Existing("no list '{}'"),
    help="Files, one 'file' or 'key file' per line.",
)
@output_option("NumPy .npz, Kaldi .ark (with its .scp beside) or .jsonl.")
@click.option(
    "--skip-broken",
    is_flag=True,
    help="Exit with code 0 although some utterances could not be embedded.",
)
@threads_option
@trust_option
@common_options
def embed_command(**given: Any) -> None:
    """Write the speaker embeddings of utterances.

    PATH is {models}; INPUTS are audio files, folders of them and
    whatever `sparsify train --data` reads: manifests, Kaldi directories, lists of shards and other
    corpora. The key of an embedding is the utterance's name in its list, the file as given, or in a
    folder its path from there. What cannot be embedded is left out and named; the exit code is
    then 1.
    """
    from sparsify.verification.embedding_tables import check_table

    sources = [*given["inputs"], *filter(None, [given["list_file"]])]
    check_table(given["output"], sources)
    from sparsify.cli.embed import run

    run(**given)
