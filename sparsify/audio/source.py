"""Where encoded audio lies: a file, a stretch of a recording, or a member of a tar."""

from __future__ import annotations

import errno
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


def encoded_bytes(source: AudioSource) -> int:
    """Length of the encoded audio in bytes.

    Raises:
        OSError: There is no such file.
    """
    return source.path.stat().st_size if source.size is None else source.size


@contextmanager
def open_audio(source: AudioSource) -> Iterator[sf.SoundFile]:
    """Opens the whole recording of a source; members of tars are read where they lie.

    Raises:
        OSError: There is no such file.
        soundfile.SoundFileError: It is no audio that libsndfile knows.
    """
    if not os.path.isfile(source.path):  # a pipe would be waited for
        raise FileNotFoundError(errno.ENOENT, "no such file", str(source.path))
    if not encoded_bytes(source):
        raise sf.SoundFileError("empty file")
    with ExitStack() as stack:
        if source.size is None:
            if source.path.suffix.lower() == ".raw":
                raise sf.SoundFileError("samples without a header: convert it to wav or flac")
            # soundfile does not encode names that are no UTF-8.
            name = source.path if os.name == "nt" else os.fsencode(source.path)
            yield stack.enter_context(_Forwards(name))
        else:
            stream = stack.enter_context(source.path.open("rb"))
            if source.offset + source.size > os.fstat(stream.fileno()).st_size:
                raise sf.SoundFileError("beyond the end of the file that it is in")
            member = io.BufferedReader(_Member(stream, source.offset, source.size), 1 << 16)
            yield stack.enter_context(_Forwards(member))


def last_bytes(source: AudioSource, count: int) -> bytes:
    """The end of the encoded audio."""
    with source.path.open("rb") as stream:
        end = stream.seek(0, io.SEEK_END) if source.size is None else source.offset + source.size
        start = max(source.offset, end - count)
        stream.seek(start)
        return stream.read(end - start)


class _Forwards(sf.SoundFile):
    """A file that soundfile reads without seeking to where it is: MP3 decodes differently then."""

    def seekable(self) -> bool:
        """What soundfile asks before it seeks; `seek` itself remains."""
        return False


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
        self._position = max(0, origin + position)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        wanted = memoryview(buffer)[: max(0, self._size - self._position)]
        self._stream.seek(self._offset + self._position)
        count = self._stream.readinto(wanted)
        self._position += count
        return count
