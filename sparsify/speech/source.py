"""Where encoded audio lies: a file, a stretch of a recording, or a member of a tar."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile as sf

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@dataclass(frozen=True)
class AudioSource:
    """Encoded audio.

    Attributes:
        path: The file.
        start: Where the wanted stretch begins, in seconds.
        end: Where it ends, in seconds; None at the end of the recording.
        offset: Byte of the file at which the encoded audio begins.
        size: Its length in bytes; None for the whole file.
    """

    path: Path
    start: float = 0.0
    end: float | None = None
    offset: int = 0
    size: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.size is None else f"{self.path} at byte {self.offset}"


@contextmanager
def open_audio(source: AudioSource) -> Iterator[sf.SoundFile]:
    """Opens the whole recording of a source; members of tars are read where they lie.

    Raises:
        OSError: There is no such file.
        soundfile.SoundFileError: It is no audio that libsndfile knows.
    """
    with ExitStack() as stack:
        if source.size is None:
            # soundfile does not encode names that are no UTF-8.
            name = source.path if os.name == "nt" else os.fsencode(source.path)
            yield stack.enter_context(sf.SoundFile(name))
        else:
            stream = stack.enter_context(source.path.open("rb"))
            member = io.BufferedReader(_Member(stream, source.offset, source.size), 1 << 16)
            yield stack.enter_context(sf.SoundFile(member))


def last_bytes(source: AudioSource, count: int) -> bytes:
    """The end of the encoded audio."""
    with source.path.open("rb") as stream:
        end = stream.seek(0, io.SEEK_END) if source.size is None else source.offset + source.size
        start = max(source.offset, end - count)
        stream.seek(start)
        return stream.read(end - start)


class _Member(io.RawIOBase):
    """A stretch of a file that reads like a file of its own."""

    def __init__(self, stream: io.BufferedReader, offset: int, size: int) -> None:
        self._stream, self._offset, self._size = stream, offset, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = origin + position
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        wanted = memoryview(buffer)[: max(0, self._size - self._position)]
        self._stream.seek(self._offset + self._position)
        count = self._stream.readinto(wanted)
        self._position += count
        return count
