"""Manifests: one utterance per line, as JSON or CSV, so that nothing has to be scanned."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from sparsify.corpus.corpus import Listing
from sparsify.corpus.text_lists import (
    MOST_SECONDS,
    lines_of,
    open_list,
    refuse_command,
    start_of_paths,
)
from sparsify.corpus.utterances import Utterance, Utterances, UtterancesBuilder
from sparsify.documents import parse_json
from sparsify.errors import SparsifyError
from sparsify.files import replacing
from sparsify.progress import Track, silent

SUFFIXES = (".jsonl", ".csv")
_MOST_BYTES = 2.0**53  # beyond, numbers are no longer exact
_NUMBERS = dict.fromkeys(("start", "end", "duration", "seconds"), MOST_SECONDS) | dict.fromkeys(
    ("offset", "bytes"), _MOST_BYTES
)


def read_manifest(path: Path, track: Track = silent) -> Listing:
    """Reads a manifest, or WeSpeaker's `raw.list`.

    Every line has `speaker` (or `spk`) and `path` (or `wav`), and may have `key`, `start` and `end`
    (or `duration`) in seconds, `seconds`, `offset` and `bytes` of a member of a tar, and `verified`
    if somebody has decoded it to the end. Relative paths start at the manifest's folder, or at the
    current folder if the first file is there.

    Args:
        path: The manifest.
        track: Shows progress.

    Raises:
        SparsifyError: It is no manifest, or a line is malformed.
    """
    builder = UtterancesBuilder(path.parent)
    verified = True
    rows = _rows(path)
    first = [*islice(rows, 1)]  # whatever is no manifest is refused before its lines are counted
    for line, row in track(chain(first, rows), f"Reading {path}", _count_lines(path)):
        try:
            _add(builder, row)
            verified = verified and str(row.get("verified")).lower() == "true"
            if len(builder) == 1:
                builder.root = start_of_paths(path, _text(row, "path", "wav"))
        except ValueError as error:
            raise SparsifyError(f"{path}, line {line}: {error}") from error
    if not len(builder):
        raise SparsifyError(f"{path} lists no utterances: give a manifest with one per line")
    try:
        return Listing(builder.build(verified=verified))
    except SparsifyError as error:
        raise SparsifyError(f"{path}: {error}") from error


def write_manifest(utterances: Utterances, path: Path, track: Track = silent) -> None:
    """Writes a manifest that `read_manifest` turns into the same utterances.

    Paths below the manifest's folder are written relative to it, others absolute.

    Args:
        utterances: What to list.
        path: A file whose name ends in .jsonl or .csv.
        track: Shows progress.

    Raises:
        SparsifyError: The file cannot be written, or its name ends otherwise.
    """
    check_suffix(path)
    columns = ["key", "speaker", "path", "seconds"]
    columns += [] if utterances.spans is None else ["start", "end"]
    columns += [] if utterances.members is None else ["offset", "bytes"]
    columns += ["verified"] if utterances.verified else []
    folder = os.path.join(os.path.abspath(path.parent), "")
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        listed = track(utterances, "Writing the manifest", len(utterances))
        rows = (_row(utterance, columns, folder) for utterance in listed)
        if path.suffix == ".csv":
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def check_suffix(path: Path) -> None:
    """Checks that a name says which kind of manifest to write.

    Raises:
        SparsifyError: It does not.
    """
    if path.suffix not in SUFFIXES:
        raise SparsifyError(f"'{path}' must end in .jsonl or .csv, to say how it is written")


def _row(utterance: Utterance, columns: list[str], folder: str) -> dict[str, Any]:
    path = os.path.abspath(utterance.path)
    row = {
        "key": utterance.key,
        "speaker": utterance.speaker,
        "path": path.removeprefix(folder),
        "seconds": None if math.isnan(utterance.seconds) else utterance.seconds,
        "start": utterance.start,
        "end": utterance.end,
        "offset": None if utterance.size is None else utterance.offset,
        "bytes": utterance.size,
        "verified": True,
    }
    return {column: row[column] for column in columns}


def _count_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 20), b""))


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with open_list(path) as stream:
        start = next((line.lstrip()[0] for line in lines_of(stream) if not line.isspace()), "")
        stream.seek(0)
        yield from _json_rows(stream) if start == "{" else _csv_rows(stream)


def _json_rows(stream: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines_of(stream), 1):
        if not line.isspace():
            where = f"{stream.name}, line {number}"
            row = parse_json(line.strip(), where)
            if not isinstance(row, dict):
                raise SparsifyError(f"{where}: not a JSON object, which begins with {{")
            yield number, row


def _csv_rows(stream: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(lines_of(stream))
    try:
        columns = next((row for row in reader if any(row)), [])
        if not ({"speaker", "spk"} & {*columns} and {"path", "wav"} & {*columns}):
            raise SparsifyError(
                f"{stream.name} is no manifest: give JSON lines with speaker and path, a CSV"
                " file whose first line names these columns, or a list of tars"
            )
        for values in reader:
            if values:
                yield reader.line_num, dict(zip(columns, values, strict=False))
    except csv.Error as error:
        where = f"{stream.name}, line {reader.line_num}"
        raise SparsifyError(f"{where}: {error}; mend its quotes") from error


def _add(builder: UtterancesBuilder, row: Mapping[str, Any]) -> None:
    speaker, path = _text(row, "speaker", "spk"), _text(row, "path", "wav")
    refuse_command(path)
    start, end, duration, seconds, offset, size = [
        _number(row, name, most) if name in row else None for name, most in _NUMBERS.items()
    ]
    if end is None and start is not None and duration is not None:
        end = start + duration
    if end is not None and end <= (start or 0):
        raise ValueError(f"the end {end:g} s is not after the start {start or 0:g} s")
    if seconds is None:
        seconds = duration if end is None else end - (start or 0)
    if offset is not None and size is None:
        raise ValueError("an offset needs the number of bytes, too")
    key = _text(row, "key", "key") if row.get("key") else _key(path, start, offset)
    builder.add(
        key,
        speaker,
        path,
        math.nan if seconds is None else seconds,
        start or 0.0,
        end,
        int(offset or 0),
        None if size is None else int(size),
    )


def _key(path: str, start: float | None, offset: float | None) -> str:
    parts = [path, *(f"{number:.15g}" for number in (offset, start) if number is not None)]
    return ":".join(parts)


def _text(row: Mapping[str, Any], name: str, other: str) -> str:
    value = row.get(name, row.get(other))
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int):
        return str(value)
    if name == other:
        raise ValueError(f"{name} is {value!r}, not a text")
    raise ValueError(f"no '{name}' (or '{other}')")


def _number(row: Mapping[str, Any], name: str, most: float) -> float | None:
    value = row[name]
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if 0 <= number <= most:
        return number
    raise ValueError(f"{name} is {value!r}, not a number from 0 up to {most:g}")
