"""Kaldi data directories: wav.scp, utt2spk and, if they are there, segments and utt2dur."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sparsify.corpus.corpus import Listing, Skipped
from sparsify.corpus.text_lists import (
    MOST_SECONDS,
    lines_of,
    open_list,
    refuse_command,
    start_of_paths,
)
from sparsify.corpus.utterances import UtterancesBuilder
from sparsify.errors import SparsifyError
from sparsify.progress import Track

V = TypeVar("V")

_OPEN_END = re.compile(r"-1(\.0*)?")


def is_kaldi(folder: Path) -> bool:
    """Whether a folder is a data directory of Kaldi."""
    return (folder / "wav.scp").exists()


def list_kaldi(folder: Path, track: Track) -> Listing:
    """The utterances of `utt2spk`; relative paths start as in a manifest.

    Raises:
        SparsifyError: A file is missing or malformed, or wav.scp holds a command.
    """
    recordings = _table(folder / "wav.scp", 2, _recording)
    segments = _table(folder / "segments", 4, _segment, optional=True)
    known = _table(folder / "utt2dur", 2, _seconds, optional=True)
    builder = UtterancesBuilder(folder)
    if recordings:
        builder.root = start_of_paths(folder / "wav.scp", next(iter(recordings.values())))
    skipped = []
    speakers = _table(folder / "utt2spk", 2, lambda where, speaker: (where, speaker))
    for utterance, (where, speaker) in track(speakers.items(), f"Reading {folder}", len(speakers)):
        if utterance not in (segments or recordings):
            skipped.append(Skipped(folder / utterance, f"{where}: no recording"))
            continue
        recording, start, end = segments.get(utterance, (utterance, 0.0, None))
        if recording not in recordings:
            skipped.append(Skipped(folder / utterance, f"no recording '{recording}' in wav.scp"))
            continue
        seconds = known.get(utterance, math.nan) if end is None else end - start
        try:
            builder.add(utterance, speaker, recordings[recording], seconds, start, end)
        except ValueError as error:
            raise SparsifyError(f"{where}: {error}") from error
    nobody = sorted((segments or recordings).keys() - speakers.keys())
    skipped += [Skipped(folder / name, "no speaker in utt2spk") for name in nobody]
    return Listing(builder.build(), skipped)


def _recording(where: str, audio: str) -> str:
    try:
        refuse_command(audio)
    except ValueError as error:
        raise SparsifyError(f"{where}: {error}") from error
    return audio


def _segment(where: str, recording: str, start: str, end: str) -> tuple[str, float, float | None]:
    first = _seconds(where, start)
    if _OPEN_END.fullmatch(end):
        return recording, first, None
    last = _seconds(where, end)
    if last <= first:
        raise SparsifyError(f"{where}: the end {end} s is not after the start {start} s")
    return recording, first, last


def _seconds(where: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if 0 <= seconds <= MOST_SECONDS:
        return seconds
    raise SparsifyError(f"{where}: '{text}' is no number of seconds from 0 up to {MOST_SECONDS:g}")


def _table(
    path: Path, fields: int, value: Callable[..., V], *, optional: bool = False
) -> dict[str, V]:
    """What a file says of each of the names that its lines begin with.

    Args:
        path: The file.
        fields: How many a line has; the last may hold spaces.
        value: Turns where a line is and its other fields into what is wanted.
        optional: Whether the file may be missing.
    """
    table: dict[str, V] = {}
    if optional and not path.exists():
        return table
    if not path.is_file():
        raise SparsifyError(f"no {path}: a Kaldi data directory has wav.scp and utt2spk")
    with open_list(path) as stream:
        for number, line in enumerate(lines_of(stream), 1):
            where = f"{path}, line {number}"
            parts = line.strip().split(maxsplit=fields - 1)
            if not parts:
                continue
            if len(parts) != fields:
                raise SparsifyError(f"{where}: {fields} fields are needed")
            if parts[0] in table:
                raise SparsifyError(f"{where}: '{parts[0]}' is listed twice: remove one of them")
            table[parts[0]] = value(where, *parts[1:])
    return table
