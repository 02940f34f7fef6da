"""Utterances by the million: columns of numbers and of text in place of an object each."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import eq
from pathlib import Path
from typing import SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from sparsify.audio.source import AudioSource
from sparsify.errors import SparsifyError

_ENCODING = ("utf-8", "surrogateescape")  # keeps the names of files that are not UTF-8


@dataclass(frozen=True)
class Utterance:
    """What a speaker said in one go: a file, a stretch of one, or a member of a tar.

    Attributes:
        key: Its name, unlike all others; of a file the path below the corpus's root, with forward
            slashes.
        speaker: Name of the speaker; empty if nobody knows.
        path: The file it lies in.
        seconds: Duration; NaN while nobody has looked.
        start: Where it begins in the recording, in seconds.
        end: Where it ends, in seconds; None at the end of the recording.
        offset: Byte of the file at which the encoded recording begins.
        size: Bytes of the encoded recording; None for the whole file.
    """

    key: str
    speaker: str
    path: Path
    seconds: float
    start: float = 0.0
    end: float | None = None
    offset: int = 0
    size: int | None = None

    @property
    def source(self) -> AudioSource:
        """Where its audio lies."""
        return AudioSource(self.path, self.start, self.end, self.offset, self.size)

    @property
    def place(self) -> Path:
        """Where a person finds it: the file, and of a part of a file also the key."""
        whole = self.size is None and self.end is None and not self.start
        return self.path if whole else self.path / self.key


class Strings(Sequence[str]):
    """Texts one after the other in one buffer.

    Args:
        content: All texts, encoded.
        ends: Where each one ends in `content`, after a first 0, `(texts + 1,)`.
    """

    def __init__(self, content: bytes, ends: npt.NDArray[np.int64]) -> None:
        self.content, self.ends = content, ends

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self.content[self.ends[place] : self.ends[place + 1]].decode(*_ENCODING)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Strings):
            return NotImplemented
        return self.content == other.content and np.array_equal(self.ends, other.ends)

    __hash__ = None  # type: ignore[assignment]

    def where(self, mask: npt.NDArray[np.bool_]) -> Strings:
        """Those at which the mask is true, in order."""
        lengths = np.diff(self.ends)
        content = np.frombuffer(self.content, np.uint8)[np.repeat(mask, lengths)]
        return Strings(content.tobytes(), _cumulated(lengths[mask]))


@dataclass(frozen=True, eq=False)
class Utterances(Sequence[Utterance]):
    """A sequence of utterances that makes each one when it is asked for.

    Attributes:
        keys: Their keys, `(N,)`.
        speakers: Names of all speakers there are, sorted.
        labels: Position of each one's speaker in `speakers`, `(N,)`.
        root: Where relative paths start.
        paths: Their files, `(N,)`.
        seconds: Durations, NaN where unknown, `(N,)`.
        spans: Start and end in the recording, NaN for an open end, `(N, 2)`; None if all are whole.
        members: First byte and length in the file, -1 for whole files, `(N, 2)`; None if all are.
        verified: Whether somebody has decoded all of them to the end.
    """

    keys: Strings
    speakers: tuple[str, ...]
    labels: npt.NDArray[np.int32]
    root: Path
    paths: Strings
    seconds: npt.NDArray[np.float64]
    spans: npt.NDArray[np.float64] | None = None
    members: npt.NDArray[np.int64] | None = None
    verified: bool = False

    @classmethod
    def of(cls, utterances: Iterable[Utterance]) -> Utterances:
        """The columns of utterances.

        Raises:
            SparsifyError: Two have the same key.
        """
        builder = UtterancesBuilder(Path())
        for u in utterances:
            builder.add(u.key, u.speaker, str(u.path), u.seconds, u.start, u.end, u.offset, u.size)
        return builder.build()

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start, end = (0.0, math.nan) if self.spans is None else self.spans[place].tolist()
        offset, size = (0, -1) if self.members is None else self.members[place].tolist()
        return Utterance(
            self.keys[place],
            self.speakers[self.labels[place]],
            self.root / self.paths[place],
            float(self.seconds[place]),
            start,
            None if math.isnan(end) else end,
            offset,
            None if size < 0 else size,
        )

    def __iter__(self) -> Iterator[Utterance]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Utterances):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many utterances each of `speakers` has."""
        return np.bincount(self.labels, minlength=len(self.speakers))

    def where(self, mask: npt.NDArray[np.bool_]) -> Utterances:
        """Those at which the mask is true, in order, and their speakers."""
        present, labels = np.unique(self.labels[mask], return_inverse=True)
        keys = self.keys.where(mask)
        return replace(
            self,
            keys=keys,
            speakers=tuple(self.speakers[label] for label in present),
            labels=labels.astype(np.int32),
            paths=keys if self.paths is self.keys else self.paths.where(mask),
            seconds=self.seconds[mask],
            spans=None if self.spans is None else self.spans[mask],
            members=None if self.members is None else self.members[mask],
        )


class UtterancesBuilder:
    """Collects utterances into columns.

    Args:
        root: Where relative paths start.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, int] = {}
        self._keys, self._key_ends = bytearray(), array("q", [0])
        self._paths, self._path_ends = bytearray(), array("q", [0])
        self._hashes, self._labels = array("q"), array("i")
        self._seconds, self._spans, self._members = array("d"), array("d"), array("q")

    def __len__(self) -> int:
        return len(self._labels)

    def add(
        self,
        key: str,
        speaker: str,
        path: str,
        seconds: float = math.nan,
        start: float = 0.0,
        end: float | None = None,
        offset: int = 0,
        size: int | None = None,
    ) -> None:
        """Appends an utterance, see `Utterance`.

        Raises:
            ValueError: Key, speaker or path is no text, or the path holds a zero byte.
        """
        if "\0" in path:
            raise ValueError("the path holds a zero byte, which no file name can: remove it")
        self._keys += key.encode(*_ENCODING)
        self._key_ends.append(len(self._keys))
        self._paths += path.encode(*_ENCODING)
        self._path_ends.append(len(self._paths))
        self._hashes.append(hash(key))
        if speaker not in self._names:
            speaker.encode(*_ENCODING)
            self._names[speaker] = len(self._names)
        self._labels.append(self._names[speaker])
        self._seconds.append(seconds)
        self._spans.append(start)
        self._spans.append(math.nan if end is None else end)
        self._members.append(offset)
        self._members.append(-1 if size is None else size)

    def build(self, *, verified: bool = False) -> Utterances:
        """The columns.

        Args:
            verified: Whether all of them have been decoded to the end.

        Raises:
            SparsifyError: Two utterances have the same key.
        """
        keys = Strings(bytes(self._keys), np.array(self._key_ends, dtype=np.int64))
        paths = Strings(bytes(self._paths), np.array(self._path_ends, dtype=np.int64))
        self._check_keys(keys)
        speakers = sorted(self._names)
        positions = np.empty(len(speakers), dtype=np.int32)
        for position, name in enumerate(speakers):
            positions[self._names[name]] = position
        spans = np.array(self._spans).reshape(-1, 2)
        members = np.array(self._members, dtype=np.int64).reshape(-1, 2)
        return Utterances(
            keys,
            tuple(speakers),
            positions[np.array(self._labels, dtype=np.int32)],
            self.root,
            keys if keys == paths else paths,
            np.array(self._seconds),
            spans if (spans[:, 0] > 0).any() or not np.isnan(spans[:, 1]).all() else None,
            members if (members[:, 1] >= 0).any() else None,
            verified,
        )

    def _check_keys(self, keys: Strings) -> None:
        hashes = np.array(self._hashes, dtype=np.int64)
        ordered = np.sort(hashes)
        seen: set[str] = set()
        for place in np.flatnonzero(np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]])):
            if keys[place] in seen:
                raise SparsifyError(
                    f"two utterances are called '{keys[place]}': give every one a key of its own"
                )
            seen.add(keys[place])


def _cumulated(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
