"""Kaldi data directories: wav.scp, utt2spk and, if they are there, segments and utt2dur."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from sparsify.errors import SparsifyError
from sparsify.progress import Track
from sparsify.speech.corpus import Skipped
from sparsify.speech.listing import Listing, open_list, refuse_command, start_of_paths
from sparsify.speech.utterances import UtterancesBuilder


def list_kaldi(folder: Path, track: Track) -> Listing:
    """The utterances of `utt2spk`; relative paths start as in a manifest.

    Raises:
        SparsifyError: A file is missing or malformed, or wav.scp holds a command.
    """
    recordings = dict(_recordings(folder / "wav.scp"))
    segments = dict(_segments(folder / "segments"))
    known = dict(_durations(folder / "utt2dur"))
    builder = UtterancesBuilder(folder)
    if recordings:
        builder.root = start_of_paths(folder / "wav.scp", next(iter(recordings.values())))
    skipped = []
    listed = set(segments or recordings)
    lines = list(_lines(folder / "utt2spk", 2))
    for where, (utterance, speaker) in track(lines, f"Reading {folder}", len(lines)):
        if utterance not in listed:
            skipped.append(Skipped(folder / utterance, f"{where}: no recording"))
            continue
        listed.discard(utterance)
        recording, start, end = segments.get(utterance, (utterance, 0.0, None))
        if recording not in recordings:
            skipped.append(Skipped(folder / utterance, f"no recording '{recording}' in wav.scp"))
            continue
        seconds = known.get(utterance, math.nan) if end is None else end - start
        builder.add(utterance, speaker, recordings[recording], seconds, start, end)
    skipped += [Skipped(folder / name, "no speaker in utt2spk") for name in sorted(listed)]
    return Listing(builder.build(), skipped)


def _recordings(path: Path) -> Iterator[tuple[str, str]]:
    for where, (recording, audio) in _lines(path, 2):
        try:
            refuse_command(audio)
        except ValueError as error:
            raise SparsifyError(f"{where}: {error}") from error
        yield recording, audio


def _segments(path: Path) -> Iterator[tuple[str, tuple[str, float, float | None]]]:
    if not path.exists():
        return
    for where, (utterance, recording, start, end) in _lines(path, 4):
        first, last = _seconds(start, where), _seconds(end, where)
        if last == -1:
            yield utterance, (recording, first, None)
        elif 0 <= first < last:
            yield utterance, (recording, first, last)
        else:
            raise SparsifyError(f"{where}: the end {end} s is not after the start {start} s")


def _durations(path: Path) -> Iterator[tuple[str, float]]:
    if path.exists():
        for where, (utterance, seconds) in _lines(path, 2):
            yield utterance, _seconds(seconds, where)


def _seconds(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise SparsifyError(f"{where}: '{text}' is no number of seconds") from error


def _lines(path: Path, fields: int) -> Iterator[tuple[str, list[str]]]:
    """The lines in their fields, the last of which may hold spaces, and where each is."""
    if not path.is_file():
        raise SparsifyError(f"no {path}: a Kaldi data directory has wav.scp and utt2spk")
    with open_list(path) as stream:
        for number, line in enumerate(stream, 1):
            parts = line.strip().split(maxsplit=fields - 1)
            if len(parts) == fields:
                yield f"{path}, line {number}", parts
            elif parts:
                raise SparsifyError(f"{path}, line {number}: {fields} fields are needed")
