"""Compiled C code in the user's cache, which runs only as this user's compiler has written it.

Whoever can write into a library can do what the user can. So the cache counts only where nobody
else can write; what is loaded is a copy of the very bytes whose digest was compared, since of a
file that is truncated while it is mapped nothing is left to report.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import logging
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sparsify.user_cache import SpoiltError, cache_home, keep, kept, new_file, objection, processor

logger = logging.getLogger(__name__)

_MOST_BYTES = 1 << 26
_PATIENCE = 300  # seconds for a compiler


def library(name: str, source: str, flags: Sequence[str]) -> ctypes.CDLL:
    """C code as a library for this processor, compiled unless it is kept.

    Args:
        name: What the file is called, beside its digest.
        source: The code.
        flags: For the compiler, which is `$CC`, else `cc`.

    Raises:
        OSError: There is no compiler, or no folder whose files may be loaded as code.
        ValueError: `$CC` is not a command.
        subprocess.SubprocessError: The compiler fails or does not end.
    """
    compiler = shlex.split(os.environ.get("CC", "").strip() or "cc")
    command = [*compiler, *flags, "-x", "c", "-"]
    try:
        version = _run([*compiler, "--version"], "")
    except FileNotFoundError as error:
        raise OSError(f"no compiler '{compiler[0]}' is here (install one, or set CC)") from error
    # `-march=native` makes code for one kind of processor; a home may be shared by several.
    key = "\0".join((source, version, *command, processor()))
    folder = _folder()
    path = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    code = _kept(path)
    if code is None:
        code = _compiled(command, source, folder)
        _keep(code, path)
    return _loaded(code, folder)


def remember(code: bytes) -> None:
    """Notes in the user's cache that code was made by this user.

    It is forgotten when the process ends if the cache does not serve, which is logged.
    """
    note = _note(code)
    temporary = new_file(b"", note.parent)
    temporary.replace(note)


def is_remembered(code: bytes) -> bool:
    """Whether code was made by this user, as `remember` noted."""
    try:
        status = os.lstat(_note(code))
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and not objection(status)


def loaded(code: bytes) -> ctypes.CDLL:
    """A library of these very bytes.

    Raises:
        OSError: It is none for this machine, or there is no folder whose files may be loaded.
    """
    return _loaded(code, _folder())


def _note(code: bytes) -> Path:
    return _folder() / f"made-{hashlib.sha256(code).hexdigest()}"


def _kept(path: Path) -> bytes | None:
    """The code in a file that nobody else can have written, if all of it is there."""
    try:
        return kept(path, _MOST_BYTES)
    except SpoiltError as error:
        logger.warning("'%s' is not loaded but compiled anew: %s", path, error)
        return None


def _compiled(command: Sequence[str], source: str, folder: Path) -> bytes:
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as private:
        path = Path(private, "compiled.so")
        _run([*command, "-o", str(path), "-lm"], source)
        return path.read_bytes()


def _keep(code: bytes, path: Path) -> None:
    try:
        keep(code, path)
    except OSError as error:
        logger.warning("compiled code cannot be kept in '%s': %s", path, error.strerror)


def _loaded(code: bytes, folder: Path) -> ctypes.CDLL:
    path = new_file(code, folder, ".so")
    try:
        return ctypes.CDLL(str(path))
    finally:
        path.unlink()


def _run(command: Sequence[str], text: str) -> str:
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
        timeout=_PATIENCE,
    ).stdout


@functools.cache
def _folder() -> Path:
    """The user's cache, or where it does not serve a folder for this process, logged."""
    try:
        path = cache_home() / "sparsify"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = objection(path.stat())
        if not os.access(path, os.W_OK):
            reason = "it is not writable"
        elif os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0):
            reason = "its file system runs no code"
        if not reason:
            return path
        reason = f"'{path}': {reason}"
    except OSError as error:
        reason = str(error)
    logger.warning("compiled code is kept for this process only, without cache: %s", reason)
    temporary = tempfile.mkdtemp(prefix="sparsify-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)
