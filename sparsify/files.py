"""Files that appear complete or not at all, that one process works on, and what they weigh."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import logging
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sparsify.errors import SparsifyError

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_UNKNOWN = "unknown"
_MAKER = re.compile(r"\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]+\.tmp$")


def check_writable(path: Path) -> None:
    """Checks that a file can be written at `path`, before work is spent on its content.

    Raises:
        SparsifyError: The folder is missing or not writable, or `path` is a folder or a device,
            which a file would replace.
    """
    if path.is_dir():
        raise SparsifyError(f"cannot write '{path}': it is a folder, give a file name")
    if path.exists() and not path.is_file():
        raise SparsifyError(f"cannot write '{path}': it is no file, and would be replaced by one")
    _check_folder_of(path)


def check_unread(path: Path, sources: Sequence[Path]) -> None:
    """Checks that what is written at `path` replaces nothing that it is made of.

    Raises:
        SparsifyError: One of the sources is that very file.
    """
    for source in sources:
        if path.exists() and source.exists() and path.samefile(source):
            raise SparsifyError(f"cannot write '{path}': it is what is read; name another --output")


def _check_folder_of(path: Path) -> None:
    if not path.parent.is_dir():
        raise SparsifyError(f"cannot write '{path}': create the folder '{path.parent}' first")
    if not os.access(path.parent, os.W_OK):
        raise SparsifyError(f"cannot write '{path}': the folder '{path.parent}' is not writable")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that replaces `path` when the block succeeds.

    When the block raises, whatever was at `path` stays and the temporary file is removed. The
    temporary name keeps the suffix of `path`, and is nobody else's, be it on another machine. What
    processes left here that were killed within the block is removed.

    Raises:
        SparsifyError: The file cannot be written.
    """
    check_writable(path)
    with _temporary(path) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def assembling(path: Path) -> Iterator[Path]:
    """Like `replacing`, for a file that others belong to, or for a folder.

    The temporary path has the name of `path`, in a folder that is empty otherwise. Whatever is made
    there moves beside it, the folder of `path` being replaced as a whole.

    Raises:
        SparsifyError: Something cannot be written.
    """
    _check_folder_of(path)
    with _temporary(path) as folder:
        folder.mkdir()
        yield folder / path.name
        for made in folder.iterdir():
            place = path.with_name(made.name)
            if made.is_dir():
                _discard(place)
            made.replace(place)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A path beside another for what will be there, which is gone after the block."""
    for left_over in _temporaries(path.with_name(glob.escape(path.name))):
        if _maker_has_ended(left_over):
            with suppress(OSError):  # in a shared folder another user's stays
                _discard(left_over)
    maker = f"{_machine()}-{os.getpid()}-{_start_of(os.getpid())}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.stem}.{maker}.tmp{path.suffix}")
    try:
        yield temporary
    except OSError as error:
        raise SparsifyError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # a name that is too long has made nothing
            _discard(temporary)


def _discard(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8, which appears complete or not at all.

    Raises:
        SparsifyError: The file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def clear_temporaries(paths: Path) -> None:
    """Removes what processes left that were killed within `replacing`, on whatever machine.

    Call it only where a lock tells that no other process writes there now.

    Args:
        paths: What they were about to write; its name may hold wildcards.
    """
    for temporary in _temporaries(paths):
        _discard(temporary)


def _temporaries(paths: Path) -> list[Path]:
    return list(paths.parent.glob(f".{paths.stem}.*.tmp{paths.suffix}"))


def _maker_has_ended(temporary: Path) -> bool:
    """Whether the process that made a temporary file is known to have ended.

    Of another machine, container or boot that is not known. A process that took over the number of
    an earlier one began at another time.
    """
    maker = temporary.name.removesuffix(temporary.suffix if temporary.suffix != ".tmp" else "")
    match = _MAKER.search(maker)
    if match is None or match["machine"] != _machine():
        return False
    pid, start = match["pid"], match["start"]
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _start_of(int(pid)) not in (start, _UNKNOWN)


def _machine() -> str:
    """Names what numbers processes: a boot of a machine, or a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        numbering = os.readlink("/proc/self/ns/pid")
    except OSError:
        return _UNKNOWN
    return hashlib.sha256(f"{boot}{numbering}".encode()).hexdigest()[:8]


def _start_of(pid: int) -> str:
    """When a process began, in ticks since the boot."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return _UNKNOWN
    return status.rpartition(")")[2].split()[19]  # the 22nd field, the name being the second


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """A lock file that is there while the block runs; tells whether this process holds the lock.

    The lock ends with this very process, whatever it has forked.

    Raises:
        OSError: The file cannot be written.
    """
    while True:
        with path.open("w") as file:
            if not holds_alone(file, fcntl.lockf):
                yield False
                return
            if not _is_at(file, path):
                continue  # removed by its last holder after it was opened here, so no lock at all
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def holds_alone(file: IO[str], lock: Callable[[IO[str], int], object]) -> bool:
    """Takes a lock on an open file; false if another process has it.

    Where the file system knows no locks, as on some clusters, that is logged, and work goes on.

    Args:
        file: Open for writing.
        lock: `fcntl.flock`, whose locks are inherited by processes, or `fcntl.lockf`, whose are
            not.
    """
    try:
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.warning(
            "'%s' cannot be locked (%s): see to it that nothing else works there",
            file.name,
            error.strerror,
        )
    return True


def size_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in _files(path))


def zipped_bytes(path: Path) -> int:
    """Size of a file after zlib's deflate at its default level, as in a zip archive.

    Of a folder, that of its files one after the other.
    """
    compressor = zlib.compressobj()
    size = 0
    for each in _files(path):
        with each.open("rb") as file:
            while chunk := file.read(_CHUNK):
                size += len(compressor.compress(chunk))
    return size + len(compressor.flush())


def content_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal.

    Of a folder, that of a list of its files, one a line: its digest, two spaces and its path within
    the folder; in the order of the paths.
    """
    if path.is_dir():
        lines = [f"{content_digest(f)}  {f.relative_to(path).as_posix()}\n" for f in _files(path)]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(path: Path) -> list[Path]:
    """A file, or all files in a folder in the order of their paths."""
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
