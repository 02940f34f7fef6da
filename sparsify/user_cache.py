"""Files in the user's cache, `$XDG_CACHE_HOME/sparsify`, of what takes long to make.

A file counts only where nobody else can write it, and as it was written: its digest is in it. It
appears whole or not at all, so that processes may make the same file at once.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
import platform
import pwd
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger(__name__)

_DIGEST = hashlib.sha256().digest_size
_PREFIX = "."  # of a file that is being written


class SpoiltError(Exception):
    """A file in the cache that is not used; says why."""


class Shelf:
    """A folder of the cache that holds a bounded number of bytes: what was not used longest goes.

    Where it cannot be used, nothing is kept, and the log has it.

    Args:
        name: Of the folder.
        most_bytes: Of all files in it.
    """

    def __init__(self, name: str, most_bytes: int) -> None:
        self._name = name
        self._most_bytes = most_bytes

    def get(self, key: str) -> bytes | None:
        """What was put there, if it is as it was put."""
        if (folder := self._folder()) is None:
            return None
        path = folder / key
        try:
            content = kept(path, self._most_bytes)
        except SpoiltError as error:
            logger.warning("'%s' is not used but made anew: %s", path, error)
            return None
        if content is not None:
            with suppress(OSError):  # another process has just removed it
                os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keeps what can be made again, unless it is too large."""
        if (folder := self._folder()) is None or len(content) + _DIGEST > self._most_bytes:
            return
        try:
            keep(content, folder / key)
            self._shed(folder)
        except OSError as error:
            logger.info("nothing is kept in '%s': %s", folder, error.strerror)

    def discard(self, key: str, why: str) -> None:
        """Throws away what has turned out wrong, and says so."""
        if (folder := self._folder()) is not None:
            logger.warning("'%s' is not used but made anew: %s", folder / key, why)
            with suppress(OSError):  # a cache that cannot be written, which `put` tells
                (folder / key).unlink(missing_ok=True)

    def _folder(self) -> Path | None:
        return _shelf(self._name, os.environ.get("XDG_CACHE_HOME"))

    def _shed(self, folder: Path) -> None:
        """Removes the oldest files beyond the bound; another process may do the same."""
        found = []
        for entry in os.scandir(folder):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime, status.st_size, Path(entry)))
        room = self._most_bytes
        for _, size, path in sorted(found, reverse=True):
            room -= size
            if room < 0:
                path.unlink(missing_ok=True)


@functools.lru_cache
def _shelf(name: str, _home: str | None) -> Path | None:
    """The folder of a shelf, or none, which is logged once."""
    try:
        ours = cache_home() / "sparsify"
        folder = ours / name
        ours.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        reason = objection(folder.stat()) or objection(ours.stat())
        if not reason:
            return folder
        reason = f"'{folder}': {reason}"
    except OSError as error:
        reason = str(error)
    logger.info("nothing is kept for later: %s", reason)
    return None


def kept(path: Path, most_bytes: int) -> bytes | None:
    """What `keep` has put into a file; `None` if there is none.

    Args:
        path: The file.
        most_bytes: More are not read.

    Raises:
        SpoiltError: Somebody else can have written it, or it is not as it was written.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            reason = objection(status) if stat.S_ISREG(status.st_mode) else "it is no file"
            if reason or status.st_size > most_bytes:
                raise SpoiltError(reason or "it is too large")
            content = file.read(most_bytes)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpoiltError(error.strerror) from error
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise SpoiltError("it is damaged")
    return body


def keep(content: bytes, path: Path) -> None:
    """Writes content and its digest, all at once: other processes may do the same.

    Raises:
        OSError: It cannot be written.
    """
    temporary = new_file(content + hashlib.sha256(content).digest(), path.parent)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def new_file(content: bytes, folder: Path, suffix: str = "") -> Path:
    """A new file, of a name that nobody knows before, which only this user may open.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=suffix, dir=folder)
    path = Path(name)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        path.unlink()
        raise
    return path


def code_digest(*modules: str) -> str:
    """SHA-256 of the code of modules, and of what is directly in packages, by their names."""
    digest = hashlib.sha256()
    for name in modules:
        origin = Path(str(importlib.import_module(name).__file__))
        files = origin.parent.glob("*.py") if origin.name == "__init__.py" else [origin]
        for file in sorted(files):
            content = file.read_bytes()
            digest.update(f"{name}/{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def cache_home() -> Path:
    """As the XDG base directory specification has it; what is empty or relative is not set.

    Raises:
        FileNotFoundError: The user has no home.
    """
    for variable, below in (("XDG_CACHE_HOME", ""), ("HOME", ".cache")):
        value = os.environ.get(variable, "")
        if os.path.isabs(value):
            return Path(value, below)
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir, ".cache")
    except KeyError as error:
        raise FileNotFoundError("the user has no home") from error


def objection(status: os.stat_result) -> str:
    """What speaks against trusting a file or folder, or nothing."""
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others can write it (chmod go-w)"
    return ""


def processor() -> str:
    """What tells this kind of processor from others."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _open(path: str, flags: int) -> int:
    """Follows no link, waits for nobody."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
