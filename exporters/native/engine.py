"""The engine without a network: what runs any blob, for measurements and tests."""

from __future__ import annotations

import ctypes
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsify.compiled_code import library
from sparsify.errors import SparsifyError

FLAGS = (
    *("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno"),
    *("-fPIC", "-Wall", "-Wextra"),
)
ALIGNMENT = 64
ENGINE_SOURCES = ("runtime.c", "engine_base.c", "engine_avx2.c", "engine_avx512.c", "engine_half.c")
_ERRORS = {
    -2: "the utterance is shorter than the network needs",
    -3: "the utterance has more frames than can be counted",
}


def source_folder() -> Path:
    """The folder of the C files."""
    return Path(str(resources.files("sparsify.exporters.native") / "c"))


def workspace(size: int) -> NDArray[np.float32]:
    """Memory for calls, which begins at a multiple of 64 bytes."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % ALIGNMENT :][:size]  # type: ignore[return-value]


def check(code: int) -> None:
    """Raises what an error code says.

    Raises:
        SparsifyError: It is not 0.
    """
    if code:
        raise SparsifyError(_ERRORS.get(code, f"the native engine fails with error {code}"))


class Engine:
    """Runs blobs.

    Args:
        flags: For the compiler, beside the usual ones.

    Raises:
        OSError: There is no compiler, or no folder for compiled code.
        subprocess.SubprocessError: The compiler fails.
    """

    def __init__(self, flags: tuple[str, ...] = ()) -> None:
        folder = source_folder()
        files = sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h"))
        digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
        sources = [str(folder / name) for name in (*ENGINE_SOURCES, "profile.c")]
        # The digest makes another library of other files.
        source = f"typedef int sparsify_{digest};"
        self._library = library("engine", source, (*FLAGS, *flags, "-shared", *sources))
        size = ctypes.c_size_t
        self._library.sparsify_blob_workspace.restype = size
        self._library.sparsify_blob_workspace.argtypes = [
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_int,
        ]
        self._memory = workspace(0)  # kept: new memory is slow where it is touched first

    def embed(self, blob: bytes, feats: NDArray[np.float32]) -> NDArray[np.float32]:
        """The embedding of features `(T, bins)`.

        Raises:
            SparsifyError: There are too few frames, or too many.
        """
        return self._call("sparsify_blob_embed", blob, feats)

    def seconds(self, blob: bytes, feats: NDArray[np.float32]) -> NDArray[np.float64]:
        """What each operation takes of features `(T, bins)`, in seconds.

        Raises:
            SparsifyError: There are too few frames, or too many.
        """
        times = np.zeros(np.frombuffer(blob, np.int32, 13)[12])
        self._call("sparsify_blob_profile", blob, feats, ctypes.c_void_p(times.ctypes.data))
        return times

    def _call(
        self, function: str, blob: bytes, feats: NDArray[np.float32], *more: Any
    ) -> NDArray[np.float32]:
        embedding = np.empty(np.frombuffer(blob, np.int32, 4)[3], np.float32)
        feats = np.ascontiguousarray(feats, np.float32)
        size = self._library.sparsify_blob_workspace(blob, len(feats), 1)
        if size > self._memory.nbytes:
            self._memory = workspace(size)
        memory = self._memory
        code = getattr(self._library, function)(
            ctypes.c_char_p(blob),
            ctypes.c_void_p(feats.ctypes.data),
            ctypes.c_int(len(feats)),
            ctypes.c_void_p(memory.ctypes.data),
            ctypes.c_size_t(memory.nbytes),
            ctypes.c_void_p(embedding.ctypes.data),
            *more,
        )
        check(code)
        return embedding
