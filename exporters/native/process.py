"""Compiled code of another machine as a network: in an emulator, or in node."""

from __future__ import annotations

import shutil
import struct
import subprocess
import weakref
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import SparsifyError
from sparsify.exporters.native.engine import check, source_folder
from sparsify.exporters.native.library import run_compiler
from sparsify.exporters.native.targets import LIBRARY, Target
from sparsify.exporters.networks import Network

_ARCHITECTURES = {"arm64": "aarch64", "x86": "x86_64"}
_MODULE, _BLOB = "engine.wasm", "weights.bin"


def emulator(target: Target) -> str | None:
    """The program that runs a target's code on this machine, if it is installed."""
    if target.name == "wasm":
        return shutil.which("node")
    return shutil.which(_qemu(target)) if _system(target).is_dir() else None


def emulator_wanted(target: Target) -> str:
    """How to get one."""
    return "node" if target.name == "wasm" else f"{_qemu(target)} (Debian's qemu-user)"


def process_network(target: Target, code: bytes, blob: bytes, bins: int, name: str) -> Network:
    """Compiled code and a network's blob as a network.

    Args:
        target: What the code is for.
        code: What was compiled.
        blob: The network, in its own file where the code does not hold it.
        bins: Features of a frame that are expected.
        name: Of the model, for errors.

    Raises:
        SparsifyError: It cannot be run here, or is not for these features.
    """
    _, _, feature_dim, embedding_dim = (int(each) for each in np.frombuffer(blob, np.int32, 4))
    if feature_dim != bins:
        raise SparsifyError(f"'{name}' takes {feature_dim} features a frame, not {bins}")
    program = emulator(target)
    if program is None:
        raise SparsifyError(f"'{name}' is for {target.name}: install {emulator_wanted(target)}")
    folder = TemporaryDirectory()
    place = Path(folder.name)
    if target.name == "wasm":
        (place / _MODULE).write_bytes(code)
        (place / _BLOB).write_bytes(blob)
        command = [program, str(source_folder().parent / "serve.mjs"), str(place)]
    else:
        (place / LIBRARY).write_bytes(code)
        server = _server(target, place)
        command = [program, "-L", str(_system(target)), str(server), str(place / LIBRARY)]
    return Process(command, folder, (feature_dim, embedding_dim), name).embed


def _server(target: Target, folder: Path) -> Path:
    """A program for the target that embeds what it reads."""
    output = folder / "serve"
    arguments = ("-O1", str(source_folder() / "serve.c"), "-o", str(output), "-ldl")
    for compiler in target.compilers():
        try:
            run_compiler((*compiler, *arguments), folder)
        except OSError:
            continue
        if target.fits(output.read_bytes()):
            return output
    raise SparsifyError(f"no compiler makes programs for {target.name}")


def _qemu(target: Target) -> str:
    return f"qemu-{_ARCHITECTURES.get(target.name, target.name)}"


def _system(target: Target) -> Path:
    """The libraries of another machine, as Debian's cross compilers bring them."""
    return Path(f"/usr/{_ARCHITECTURES.get(target.name, target.name)}-linux-gnu")


class Process:
    """A program that embeds what it reads, one utterance after the other.

    Args:
        command: Starts it.
        folder: Temporary files that it needs.
        dimensions: Features of a frame, and values of an embedding.
        name: Of the model, for errors.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: TemporaryDirectory[str],
        dimensions: tuple[int, int],
        name: str,
    ) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._bins, self._embedding_dim = dimensions
        self._name = name
        weakref.finalize(self, _stop, self._process, folder)

    def embed(self, feats: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings `(B, D)` of features `(B, T, bins)`.

        Raises:
            SparsifyError: The features are not those of the model, the utterance is too short,
                or the program ends.
        """
        if feats.shape[2] != self._bins:
            raise SparsifyError(
                f"'{self._name}' takes {self._bins} features a frame, not {feats.shape[2]}"
            )
        return np.stack([self._embed(each) for each in np.ascontiguousarray(feats, np.float32)])

    def _embed(self, feats: NDArray[np.float32]) -> NDArray[np.float32]:
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None
        assert sink is not None
        try:
            sink.write(struct.pack("=i", len(feats)) + feats.tobytes())
            sink.flush()
            answer = source.read(4 + 4 * self._embedding_dim)
        except BrokenPipeError:
            answer = b""
        if len(answer) < 4 + 4 * self._embedding_dim:
            raise SparsifyError(f"what runs '{self._name}' has ended: export the model again")
        check(struct.unpack_from("=i", answer)[0])
        return np.frombuffer(answer, np.float32, offset=4).copy()


def _stop(process: subprocess.Popen[bytes], folder: TemporaryDirectory[str]) -> None:
    process.kill()
    process.wait()
    folder.cleanup()
