"""Files that appear complete or not at all, that one process works on, and what they weigh."""

from __future__ import annotations

import fcntl
import logging
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sparsify.errors import SparsifyError

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20


def check_writable(path: Path) -> None:
    """Checks that a file can be written at `path`, before work is spent on its content.

    Raises:
        SparsifyError: The folder is missing or not writable, or `path` is a folder.
    """
    if path.is_dir():
        raise SparsifyError(f"cannot write '{path}': it is a folder, give a file name")
    if not path.parent.is_dir():
        raise SparsifyError(f"cannot write '{path}': create the folder '{path.parent}' first")
    if not os.access(path.parent, os.W_OK):
        raise SparsifyError(f"cannot write '{path}': the folder '{path.parent}' is not writable")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that replaces `path` when the block succeeds.

    When the block raises, whatever was at `path` stays and the temporary file is removed. The
    temporary name keeps the suffix of `path`.

    Raises:
        SparsifyError: The file cannot be written.
    """
    check_writable(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise SparsifyError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


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


def zipped_bytes(path: Path) -> int:
    """Size of a file after zlib's deflate at its default level, as in a zip archive."""
    compressor = zlib.compressobj()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(compressor.compress(chunk))
    return size + len(compressor.flush())
