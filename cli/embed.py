"""`sparsify embed`: the embeddings of speech, as a table that other tools read."""

from __future__ import annotations

import math
import time
from pathlib import Path

import click
import numpy as np

from sparsify.cli.display import GateError, emit_json, out, track
from sparsify.corpus.layouts import list_speech
from sparsify.corpus.utterances import Utterance
from sparsify.documents import MOST_LIST_BYTES, read_text, split_at_blanks
from sparsify.errors import SparsifyError
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.verification.embedding import embeddings_or_errors, utterance_recordings
from sparsify.verification.embedding_tables import EmbeddingTable, check_keys, write_table


def run(
    *,
    path: Path,
    inputs: tuple[Path, ...],
    list_file: Path | None,
    output: Path,
    skip_broken: bool,
    threads: int | None,
    trust: bool,
    as_json: bool,
) -> None:
    """What `sparsify embed` does."""
    utterances, skipped = _gather(inputs, list_file)
    check_keys(output, utterances)
    count = len(utterances) + len(skipped)
    model = load_speaker_model(path, threads, trust=trust)
    start = time.perf_counter()
    recordings = utterance_recordings(utterances.values(), model.front_end.sample_rate)
    rows = {}
    found = embeddings_or_errors(model.embedder, recordings, model.front_end, track=track)
    for key, embedding in zip(utterances, found, strict=True):
        if isinstance(embedding, SparsifyError):
            skipped[key] = str(embedding)
            click.echo(f"Left out: {embedding}", err=True)
        else:
            rows[key] = embedding
    if not rows:
        raise SparsifyError(f"none of the {count} utterances could be embedded: nothing is written")
    speakers = tuple(utterances[key].speaker for key in rows)
    table = EmbeddingTable(tuple(rows), speakers, np.stack(list(rows.values())), model.digest)
    written = write_table(table, output)
    if as_json:
        emit_json(
            {
                "path": str(path),
                "output": [str(file) for file in written],
                "utterances": len(rows),
                "dimensions": table.embeddings.shape[1],
                "skipped": [{"key": key, "reason": skipped[key]} for key in skipped],
                "seconds": time.perf_counter() - start,
            }
        )
    else:
        names = " and ".join(str(file) for file in written)
        dimensions = table.embeddings.shape[1]
        embeddings = f"{len(rows):,} embedding{'s' if len(rows) != 1 else ''}"
        out.print(f"{embeddings} of {dimensions} dimensions in {names}", markup=False)
    if skipped and not skip_broken:
        raise GateError(
            f"{len(skipped)} of {count} utterances could not be embedded; the others were"
            " (--skip-broken accepts that)"
        )


def _gather(
    inputs: tuple[Path, ...], list_file: Path | None
) -> tuple[dict[str, Utterance], dict[str, str]]:
    """All utterances by their keys, and why others were left out, which are named at once.

    Raises:
        SparsifyError: There are none, two have the same key, or an input is malformed.
    """
    found: dict[str, Utterance] = {}
    skipped: dict[str, str] = {}

    def add(utterance: Utterance) -> None:
        other = found.setdefault(utterance.key, utterance)
        if other.source != utterance.source:
            raise SparsifyError(
                f"'{other.path}' and '{utterance.path}' have the same key '{utterance.key}': embed"
                " them one by one, or give a manifest or --list with keys of your own"
            )
        if "" not in (other.speaker, utterance.speaker) and other.speaker != utterance.speaker:
            raise SparsifyError(
                f"'{utterance.key}' is of speaker '{other.speaker}' in one input and of"
                f" '{utterance.speaker}' in another: mend one of them"
            )

    for path in inputs:
        try:
            listing = list_speech(path, track)
        except SparsifyError as error:
            if path.is_dir():
                raise
            raise SparsifyError(f"{error}; a list of audio files goes to --list") from error
        for left_out in listing.skipped:
            skipped[str(left_out.path)] = left_out.reason
            click.echo(f"Left out: {left_out.path}: {left_out.reason}", err=True)
        for utterance in listing.utterances:
            add(utterance)
    for number, line in enumerate(_lines(list_file) if list_file else (), start=1):
        key, *file_name = split_at_blanks(line, 1)
        if "".join(file_name).endswith("|"):
            raise SparsifyError(f"{list_file}:{number}: commands are not run: name an audio file")
        if key:
            file = "".join(file_name) or key
            # As in the lists that `train` reads, paths start at the list or where we are.
            beside = list_file.parent / file if list_file else Path(file)
            add(Utterance(key, "", beside if beside.exists() else Path(file), math.nan))
    if not found and not skipped and list_file and not inputs:
        raise SparsifyError(f"list '{list_file}' is empty: name an audio file in each line")
    if not found and not skipped:
        raise SparsifyError("nothing to embed: give audio files, folders, corpora or --list")
    return found, skipped


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path, MOST_LIST_BYTES, pipes=True).split("\n")
    except FileNotFoundError as error:
        raise SparsifyError(f"no list '{path}'") from error
