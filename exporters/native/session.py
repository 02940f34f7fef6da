"""A compiled library as a network."""

from __future__ import annotations

import ctypes
import hashlib
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsify.compiled_code import is_remembered, loaded
from sparsify.errors import SparsifyError
from sparsify.exporters.native.engine import check, workspace
from sparsify.exporters.native.library import BLOB, MARKER, read_marker
from sparsify.exporters.native.process import process_network
from sparsify.exporters.native.targets import LIBRARY, Target, own_target, target_named
from sparsify.exporters.networks import Network

_MOST_BYTES = 1 << 31
_ELF_HEADER = 64  # bytes
_LOADED: dict[str, ctypes.CDLL] = {}
"""Libraries by the digest of their code: what was loaded stays in memory, so once is enough."""


def native_network(folder: Path, bins: int, threads: int | None, *, trust: bool) -> Network:
    """The library in a folder as a network.

    A library is code: it is loaded if this user's own export has compiled it, or if it is trusted.

    Args:
        folder: What an export wrote.
        bins: Features of a frame that are expected.
        threads: Threads per call; one if not given.
        trust: Whether a library that others compiled may be loaded.

    Raises:
        SparsifyError: There is no library, it is not trusted, or it is not for this machine or
            these features.
    """
    target = target_of(folder)
    code = _code(folder, target, trust=trust)
    if not target.is_own:
        return process_network(target, code, (folder / BLOB).read_bytes(), bins, str(folder))
    return _in_process(folder, _library(folder / LIBRARY, code), bins, threads)


def target_of(folder: Path) -> Target:
    """What a folder's code is for.

    Raises:
        SparsifyError: The folder is damaged.
    """
    name = read_marker(folder).get("target", own_target())
    if not isinstance(name, str):
        raise SparsifyError(f"'{folder / MARKER}' is damaged: export the model again")
    return target_named(name)


def _in_process(folder: Path, library: ctypes.CDLL, bins: int, threads: int | None) -> Network:
    dimension = library.sparsify_embedding_dim()
    if library.sparsify_feature_dim() != bins:
        raise SparsifyError(
            f"'{folder / LIBRARY}' takes {library.sparsify_feature_dim()} features a frame, not"
            f" {bins}: export it again"
        )
    count = threads or 1
    memory = workspace(0)

    def embed(feats: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal memory
        batch, frames, found = feats.shape
        if found != bins:
            raise SparsifyError(f"'{folder}' takes {bins} features a frame, not {found}")
        needed = library.sparsify_threads_workspace_bytes(frames, count)
        if memory.nbytes < needed:
            memory = workspace(needed)
        embeddings = np.empty((batch, dimension), np.float32)
        for features, embedding in zip(np.ascontiguousarray(feats), embeddings, strict=True):
            arguments = (
                ctypes.c_void_p(features.ctypes.data),
                frames,
                ctypes.c_void_p(memory.ctypes.data),
                ctypes.c_size_t(memory.nbytes),
                ctypes.c_void_p(embedding.ctypes.data),
            )
            if count == 1:
                check(library.sparsify_embed(*arguments))
            else:
                check(library.sparsify_embed_threads(*arguments, count))
        return embeddings

    return embed


def _check_origin(folder: Path, path: Path, code: bytes) -> None:
    """Refuses code that is not what the user's own export of this very model has compiled."""
    if not is_remembered(code):
        raise SparsifyError(
            f"'{path}' was not compiled by an export of yours, and a library is code: give --trust"
            " if you trust who made it"
        )
    if hashlib.sha256(code).hexdigest() != read_marker(folder).get("library_digest"):
        raise SparsifyError(f"'{path}' is of another export: export the model again")


def _code(folder: Path, target: Target, *, trust: bool) -> bytes:
    path = folder / target.library
    try:
        with path.open("rb") as file:
            code = file.read(_MOST_BYTES)
    except FileNotFoundError as error:
        raise SparsifyError(
            f"'{path}' is not there: run make in '{folder}', and give --trust"
        ) from error
    if not trust:
        _check_origin(folder, path, code)
    return code


def _library(path: Path, code: bytes) -> ctypes.CDLL:
    digest = hashlib.sha256(code).hexdigest()
    if digest not in _LOADED:
        if _is_cut(code):
            raise SparsifyError(f"'{path}' cannot be loaded: its end is missing, make it again")
        try:
            library = loaded(code)
            library.sparsify_threads_workspace_bytes.restype = ctypes.c_size_t
        except (OSError, AttributeError) as error:
            raise SparsifyError(f"'{path}' cannot be loaded: {error}") from error
        _LOADED[digest] = library
    return _LOADED[digest]


def _is_cut(code: bytes) -> bool:
    """Whether a 64-bit ELF file ends before its table of sections, which compilers write last.

    The loader of the system would read what is not there, and crash.
    """
    if not code.startswith(b"\x7fELF\2") or len(code) < _ELF_HEADER:
        return False
    (begin,) = struct.unpack_from("=Q", code, 0x28)
    size, count = struct.unpack_from("=2H", code, 0x3A)
    return begin + size * count > len(code)
