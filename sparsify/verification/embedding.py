"""From recordings to embeddings: each utterance whole, by itself, read by threads ahead of time.

Batches of one keep every runtime's numbers comparable: nothing is padded, nothing is cropped.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparsify.audio.decode import read_audio, warn_of_silence
from sparsify.audio.features import Features, features_of
from sparsify.audio.listing import AUDIO_SUFFIXES
from sparsify.audio.parallel import in_threads
from sparsify.audio.samples import Samples
from sparsify.augment.corruption import corrupt_utterance
from sparsify.corpus.utterances import Utterance
from sparsify.errors import SparsifyError
from sparsify.progress import Track, silent
from sparsify.recipe.sections import FrontEnd

Embedding: TypeAlias = NDArray[np.float32]
Embedder: TypeAlias = Callable[[Features], Embedding]
"""From what a model is given of an utterance to its embedding `(D,)`."""

_THREADS = 4  # that read; the embedder has threads of its own


@dataclass(frozen=True)
class Recording:
    """An utterance that can be read when its turn comes.

    Attributes:
        name: How the utterance is called.
        read: Gives its samples `(samples,)` in [-1, 1]; raises `SparsifyError` if it cannot.
        place: Where it lies, for errors; its name where that is not known.
    """

    name: str
    read: Callable[[], Samples]
    place: str = ""

    def __str__(self) -> str:
        return self.place or self.name


def file_recordings(
    names: Iterable[str], paths: Iterable[Path], sample_rate: int
) -> list[Recording]:
    """Files as recordings."""
    return [
        Recording(name, partial(read_audio, path, sample_rate), str(path))
        for name, path in zip(names, paths, strict=True)
    ]


def utterance_recordings(utterances: Iterable[Utterance], sample_rate: int) -> list[Recording]:
    """Utterances as recordings, read from wherever they are."""
    return [
        Recording(u.key, partial(read_audio, u.source, sample_rate), str(u.source))
        for u in utterances
    ]


def corrupted(recordings: Iterable[Recording], seed: int) -> list[Recording]:
    """The same recordings, equalised and made noisy as their names and the seed decide."""

    def read(recording: Recording) -> Samples:
        return corrupt_utterance(recording.read(), recording.name, seed)

    return [replace(recording, read=partial(read, recording)) for recording in recordings]


def audio_features(
    recordings: Sequence[Recording],
    front_end: FrontEnd,
    *,
    track: Track = silent,
    description: str = "Reading utterances",
) -> Iterator[Features | SparsifyError]:
    """What a model is given of each recording, or why there is nothing, in order.

    Warns in the end of recordings in which there is no sound.
    """
    features_from, silent_ones = features_of(front_end), list[Path]()

    def read(recording: Recording) -> Features | SparsifyError:
        try:
            samples = recording.read()
        except SparsifyError as error:
            return error
        try:
            features = features_from(samples)
        except SparsifyError as error:
            return SparsifyError(f"{recording}: {error}")
        if not np.ptp(samples):  # all are equal
            silent_ones.append(Path(str(recording)))
        return features

    yield from in_threads(read, recordings, track, description, _THREADS)
    warn_of_silence(sorted(silent_ones))


def embeddings_or_errors(
    embedder: Embedder,
    recordings: Sequence[Recording],
    front_end: FrontEnd,
    *,
    track: Track = silent,
    description: str = "Embedding utterances",
) -> Iterator[Embedding | SparsifyError]:
    """The embedding `(D,)` of each recording, or why there is none, in order.

    Args:
        embedder: From features to an embedding, whatever computes it.
        recordings: What to embed.
        front_end: The features the embedder expects.
        track: Shows progress.
        description: Of the progress.
    """
    features = audio_features(recordings, front_end, track=track, description=description)
    for recording, found in zip(recordings, features, strict=True):
        if isinstance(found, SparsifyError):
            yield found
            continue
        try:
            embedding = embedder(found)
        except SparsifyError as error:
            yield SparsifyError(f"{recording}: {error}")
            continue
        if np.isfinite(embedding).all():
            yield embedding
        else:
            yield SparsifyError(
                f"the embedding of '{recording}' is not finite: the model gives NaN or infinity"
            )


def embed(
    embedder: Embedder,
    recordings: Sequence[Recording],
    front_end: FrontEnd,
    *,
    track: Track = silent,
    description: str = "Embedding utterances",
) -> NDArray[np.float32]:
    """Embeddings `(U, D)` of recordings, all of which must be usable; see `embeddings_or_errors`.

    Raises:
        SparsifyError: A recording is unusable or its embedding is not finite.
    """
    rows = []
    for found in embeddings_or_errors(
        embedder, recordings, front_end, track=track, description=description
    ):
        if isinstance(found, SparsifyError):
            raise found
        rows.append(found)
    return np.stack(rows)


def locate(names: Sequence[str], root: Path, *, option: str = "--audio-root") -> list[Path]:
    """The file of each utterance name under a folder.

    A name without its extension finds the audio file of that name, and so does a name with the
    extension of another audio format (CN-Celeb's lists say `.wav` of files that are `.flac`).

    Raises:
        SparsifyError: A name has no file, or several.
    """
    folders: dict[Path, dict[str, list[Path]]] = {}
    paths, missing = [], []
    for name in names:
        path = root / name
        if not _is(path.is_file):
            found = _by_stem(path, folders)
            if len(found) > 1:
                raise SparsifyError(
                    f"utterance '{name}' may be '{found[0]}' or '{found[1]}': say which by its"
                    " extension"
                )
            if not found:
                missing.append(path)
                continue
            path = found[0]
        paths.append(path)
    if missing:
        raise SparsifyError(
            f"{len(missing)} of the {len(names)} utterances in the trials have no file,"
            f" the first is '{missing[0]}': {option} must be the folder where the names start"
        )
    return paths


def _is(kind: Callable[[], bool]) -> bool:
    """Whether something is a file, or a folder; what cannot be called so is none."""
    try:
        return kind()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def _by_stem(path: Path, folders: dict[Path, dict[str, list[Path]]]) -> list[Path]:
    """Audio files beside `path` that differ from it in the extension only; lists a folder once."""
    if path.parent not in folders:
        by_stem: dict[str, list[Path]] = {}
        beside = sorted(path.parent.iterdir()) if _is(path.parent.is_dir) else []
        for file in beside:
            if file.suffix.lower() in AUDIO_SUFFIXES:
                by_stem.setdefault(file.stem, []).append(file)
        folders[path.parent] = by_stem
    stems = folders[path.parent]
    found = stems.get(path.name, [])
    return found or (stems.get(path.stem, []) if path.suffix.lower() in AUDIO_SUFFIXES else [])
