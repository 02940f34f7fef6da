"""The evaluation set speech-mini, built from a copy of the public corpus speechocean762.

Read English by adults (Zhang et al., Interspeech 2021, arXiv 2104.01378): `train/` and `test/` with
one folder per speaker, `test_noisy/` with the test utterances corrupted, `trials.txt` over the
names in either test folder, and `speakers.tsv`.
"""

from __future__ import annotations

import csv
import lzma
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from sparsify.augment.corruption import corrupt
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent

TRIALS_FILE = "trials.txt"
SPEAKERS_FILE = "speakers.tsv"
SAMPLE_RATE = 16000
_LISTS = files("sparsify.corpus") / "lists"
_COLUMNS = ("speaker", "gender", "age", "split")


@dataclass(frozen=True)
class Speaker:
    """A speaker of the set.

    Attributes:
        speaker: Number in speechocean762, four digits.
        gender: `f` or `m`.
        age: In years.
        split: `train` or `test`.
        samples: Total length of the utterances at 16 kHz; tells another version of the corpus.
        utterances: Names of the utterances, sorted.
    """

    speaker: str
    gender: str
    age: str
    split: str
    samples: int
    utterances: tuple[str, ...]


@dataclass(frozen=True)
class Subset:
    """A folder of the set: which speakers, and the seed if their speech is corrupted."""

    name: str
    split: str
    seed: tuple[int, ...] | None = None


SUBSETS = (
    Subset("train", "train"),
    Subset("test", "test"),
    Subset("test_noisy", "test", (762, 22, 1)),
)


def speakers() -> list[Speaker]:
    """The speakers of the set, by number within their split."""
    with (_LISTS / "speech_mini.tsv").open(encoding="utf-8") as file:
        return [_speaker(row) for row in csv.DictReader(file, delimiter="\t")]


def trial_list() -> str:
    """The content of `trials.txt`: 1,452 target and 8,712 nontarget trials."""
    packed = (_LISTS / "speech_mini_trials.txt.xz").read_bytes()
    return lzma.decompress(packed).decode()


def build(
    source: Path, output: Path, chosen: list[Speaker] | None = None, *, track: Track = silent
) -> dict[str, int]:
    """Builds the set; the folder appears complete or not at all.

    Audio is encoded as Ogg Vorbis with libsndfile's defaults. The noise of `test_noisy/` is drawn
    utterance after utterance from one generator, so it is the same wherever it is built.

    Args:
        source: Root of speechocean762, which holds `WAVE/SPEAKER0001/000010011.WAV` and so on.
        output: The folder to make.
        chosen: The speakers; those of the set by default.
        track: Shows progress.

    Returns:
        Number of utterances of each subset.

    Raises:
        SparsifyError: The source lacks an utterance or is another version, or the output exists or
            cannot be written.
    """
    chosen = speakers() if chosen is None else chosen
    _check(source, chosen)
    if output.exists():
        raise SparsifyError(f"'{output}' exists already: give a new folder")
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        counts = {
            subset.name: _build_subset(subset, source, temporary, chosen, track)
            for subset in SUBSETS
        }
        (temporary / TRIALS_FILE).write_text(trial_list(), "utf-8")
        _write_speakers(temporary / SPEAKERS_FILE, chosen)
        temporary.rename(output)
    except sf.SoundFileError as error:
        raise SparsifyError(f"cannot build '{output}' from '{source}': {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def _build_subset(
    subset: Subset, source: Path, output: Path, chosen: list[Speaker], track: Track
) -> int:
    of_split = sorted((s for s in chosen if s.split == subset.split), key=lambda s: s.speaker)
    names = [(speaker.speaker, name) for speaker in of_split for name in speaker.utterances]
    rng = None if subset.seed is None else np.random.default_rng(subset.seed)
    for speaker, name in track(names, f"Building {subset.name}", len(names)):
        samples, _ = sf.read(_source_file(source, speaker, name), dtype="float32")
        folder = output / subset.name / speaker
        folder.mkdir(parents=True, exist_ok=True)
        sf.write(
            folder / f"{name}.ogg",
            samples if rng is None else corrupt(rng, samples),
            SAMPLE_RATE,
            format="OGG",
            subtype="VORBIS",
        )
    return len(names)


def _check(source: Path, chosen: list[Speaker]) -> None:
    """Finds out before anything is written whether the source is complete and of this version."""
    for speaker in chosen:
        samples = 0
        for name in speaker.utterances:
            file = _source_file(source, speaker.speaker, name)
            if not file.is_file():
                raise SparsifyError(
                    f"no file '{file}': --source must be the root of speechocean762, which holds"
                    " the folder WAVE"
                )
            try:
                header = sf.info(file)
            except sf.SoundFileError as error:
                raise SparsifyError(f"cannot read '{file}': {error}") from error
            if (header.samplerate, header.channels) != (SAMPLE_RATE, 1):
                raise SparsifyError(
                    f"'{file}' has {header.channels} channel(s) at {header.samplerate} Hz, not one"
                    f" at {SAMPLE_RATE}: the corpus is not speechocean762 as published"
                )
            samples += header.frames
        if samples != speaker.samples:
            raise SparsifyError(
                f"speaker {speaker.speaker} has {samples} samples instead of {speaker.samples} in"
                f" '{source}': the corpus is another version of speechocean762"
            )


def _source_file(source: Path, speaker: str, name: str) -> Path:
    return source / "WAVE" / f"SPEAKER{speaker}" / f"{name}.WAV"


def _speaker(row: dict[str, Any]) -> Speaker:
    return Speaker(
        **{column: row[column] for column in _COLUMNS},
        samples=int(row["samples"]),
        utterances=tuple(row["utterances"].split()),
    )


def _write_speakers(path: Path, chosen: list[Speaker]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([getattr(speaker, column) for column in _COLUMNS] for speaker in chosen)
