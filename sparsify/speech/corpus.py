"""Which utterances there are, who speaks them, and how a file becomes samples."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import soundfile as sf
import torch

from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.speech._torchaudio import torchaudio_module
from sparsify.speech.truncation import SMALLEST_SHARE, ends_early

Samples = npt.NDArray[np.float32]
A = TypeVar("A")
R = TypeVar("R")

MIN_SECONDS = 0.3
# Includes what libsndfile cannot read, so that such files are reported and not overlooked.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd"}
    | {".caf", ".w64", ".rf64", ".sph", ".nist", ".voc", ".m4a", ".aac", ".wma", ".amr"}
)
_THREADS = 8


@dataclass(frozen=True)
class Utterance:
    """One recording.

    Attributes:
        key: Path relative to the corpus's root, with forward slashes.
        speaker: Name of the speaker (the folder's).
        path: Where the file lies.
        seconds: Duration.
    """

    key: str
    speaker: str
    path: Path
    seconds: float


@dataclass(frozen=True)
class Skipped:
    """A file that is left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Corpus:
    """Utterances in the order of their keys, and what was left out of them."""

    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...] = ()

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, sorted; their positions are the class labels."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    @property
    def seconds(self) -> float:
        """Total duration."""
        return sum(utterance.seconds for utterance in self.utterances)

    def subset(self, speakers: Collection[str]) -> Corpus:
        """The utterances of some speakers; the record of skipped files stays with the whole."""
        wanted = set(speakers)
        return Corpus(tuple(u for u in self.utterances if u.speaker in wanted))


def scan_folder(root: Path, *, strict: bool = False, track: Track = silent) -> Corpus:
    """Reads the headers of a folder with one folder per speaker (nested folders allowed).

    Files and folders whose names start with a dot, and files that are no audio, are ignored.

    Args:
        root: The folder; links to folders are followed.
        strict: Raise for the first unusable file instead of skipping it.
        track: Shows progress.

    Raises:
        SparsifyError: The folder is missing, has no speaker folders or fewer than two usable
            speakers, or (`strict`) holds an unusable file.
    """
    root = Path(root)
    if not root.is_dir():
        raise SparsifyError(f"{root} is not a folder: give one that holds a folder per speaker")
    files = sorted(_audio_files(root))
    if not files:
        raise SparsifyError(
            f"no audio under {root}: give a folder that holds a folder of audio files per speaker"
        )
    if all(path.parent == root for path in files):
        raise SparsifyError(
            f"the audio files lie directly in {root}: put them into one folder per speaker"
        )
    headers = in_threads(_seconds_or_reason, files, track, "Reading audio headers")
    utterances, skipped = [], []
    for path, found in zip(files, headers, strict=True):
        key = path.relative_to(root)
        if isinstance(found, str):
            skipped.append(Skipped(path, found))
        elif path.parent == root:
            skipped.append(Skipped(path, "lies outside the speaker folders"))
        else:
            utterances.append(Utterance(key.as_posix(), key.parts[0], path, found))
    return usable_corpus(utterances, skipped, strict=strict)


def usable_corpus(
    utterances: Iterable[Utterance], skipped: Sequence[Skipped], *, strict: bool = False
) -> Corpus:
    """The corpus of speakers with at least two utterances; the others join the skipped.

    Raises:
        SparsifyError: Fewer than two speakers are left, or (`strict`) something is skipped.
    """
    utterances = tuple(utterances)
    counts = Counter(utterance.speaker for utterance in utterances)
    left_out = [
        *skipped,
        *(
            Skipped(u.path, f"only one utterance of speaker {u.speaker}")
            for u in utterances
            if counts[u.speaker] == 1
        ),
    ]
    if strict and left_out:
        raise SparsifyError(
            f"{left_out[0].path}: {left_out[0].reason}; mend or remove it, or do without strict"
            f" checking to skip it ({len(left_out)} in all)"
        )
    corpus = Corpus(tuple(u for u in utterances if counts[u.speaker] > 1), tuple(left_out))
    if len(corpus.speakers) < 2:
        first = f", the first {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise SparsifyError(
            f"{len(corpus.speakers)} speaker(s) with two or more usable utterances, at least 2 are"
            f" needed: add speakers or mend the files left out ({len(left_out)}{first})"
        )
    return corpus


def split_speakers(corpus: Corpus, validation_speakers: int, seed: int) -> tuple[Corpus, Corpus]:
    """Takes speakers out of the corpus for validation, chosen by the seed alone.

    Returns:
        The training part and the validation part.

    Raises:
        SparsifyError: Fewer than two speakers are left to train on.
    """
    speakers = corpus.speakers
    if len(speakers) - validation_speakers < 2:
        raise SparsifyError(
            f"{validation_speakers} validation speakers out of {len(speakers)} leave fewer than 2"
            f" for training: set data.validation_speakers to at most {max(0, len(speakers) - 2)}"
            " or add speakers"
        )
    order = np.random.default_rng(seed).permutation(len(speakers))
    chosen = [speakers[i] for i in order]
    return corpus.subset(chosen[validation_speakers:]), corpus.subset(chosen[:validation_speakers])


def read_audio(path: str | Path, sample_rate: int) -> Samples:
    """Decodes a file of any format libsndfile knows.

    Channels are averaged, another rate is resampled (windowed sinc), and samples beyond full scale
    are brought back by dividing by the peak.

    Args:
        path: The file.
        sample_rate: Wanted rate in Hz.

    Returns:
        Samples in [-1, 1], `(samples,)`.

    Raises:
        SparsifyError: The file is missing, broken, truncated, empty or not finite.
    """
    decoded = decode_audio(Path(path), sample_rate)
    if isinstance(decoded, str):
        raise SparsifyError(
            f"cannot read {path}: {decoded}; check the path and that the file is an intact wav,"
            " flac, ogg, opus or mp3"
        )
    return decoded


def decode_audio(path: Path, sample_rate: int) -> Samples | str:
    """What `read_audio` returns, or in a few words why the file cannot be used."""
    try:
        if not path.is_file():
            return "no such file"
        with sf.SoundFile(path) as file:
            channels = file.read(dtype="float32", always_2d=True)
            truncated = ends_early(file, path) or len(channels) < SMALLEST_SHARE * file.frames
            rate = file.samplerate
    except (sf.SoundFileError, OSError, UnicodeError) as error:
        return _reason(error)
    samples = channels.mean(axis=1, dtype=np.float32)
    if truncated:
        return "truncated"
    if not len(samples):
        return "no samples"
    if not np.isfinite(samples).all():
        return "samples that are not finite"
    return full_scale(resample(samples, rate, sample_rate))


def full_scale(samples: Samples) -> Samples:
    """Divides samples that exceed [-1, 1] by their peak."""
    return samples / max(np.float32(1), np.abs(samples).max())


def resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    """Band-limited resampling of `(samples,)` with torchaudio's windowed sinc."""
    if rate == new_rate:
        return samples
    functional = torchaudio_module("functional")
    resampled: Samples = functional.resample(torch.from_numpy(samples), rate, new_rate).numpy()
    return resampled


def in_threads(
    function: Callable[[A], R], items: Sequence[A], track: Track, description: str
) -> Iterator[R]:
    """Maps in order with a few threads, for work that waits for disks or releases the GIL."""
    with ThreadPoolExecutor(_THREADS) as executor:
        yield from track(executor.map(function, items), description, len(items))


def _audio_files(root: Path) -> Iterator[Path]:
    seen = {os.path.realpath(root)}  # a link back up would repeat everything under other names
    for folder, subfolders, names in os.walk(root, followlinks=True):
        found, subfolders[:] = sorted(subfolders), []
        for name in found:
            place = os.path.realpath(Path(folder, name))
            if not name.startswith(".") and place not in seen:
                seen.add(place)
                subfolders.append(name)
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                yield Path(folder, name)


def _seconds_or_reason(path: Path) -> float | str:
    """The duration of a usable file, or why it is not usable."""
    try:
        if path.stat().st_size == 0:
            return "empty file"
        with sf.SoundFile(path) as file:
            seconds = file.frames / file.samplerate
            truncated = ends_early(file, path)
    except (sf.SoundFileError, OSError, UnicodeError) as error:
        return _reason(error)
    if truncated:
        return "truncated"
    return seconds if seconds >= MIN_SECONDS else f"shorter than {MIN_SECONDS} s"


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(".")
