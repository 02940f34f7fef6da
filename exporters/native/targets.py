"""What a model can be compiled for, and what compiles it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from sparsify.errors import SparsifyError, did_you_mean
from sparsify.exporters.native.engine import ENGINE_SOURCES, FLAGS

LIBRARY = "libmodel.so"
WEB = "web"
MODULE = f"{WEB}/engine.wasm"
_SHARED = (
    *(*FLAGS, "-fvisibility=hidden", "-shared", "-Wa,-I."),
    *("model.c", *ENGINE_SOURCES, "threads.c", "weights.S", "-o", LIBRARY, "-lm", "-pthread"),
)
_EXPORTED = (
    *("__heap_base", "sparsify_blob_workspace", "sparsify_blob_frames"),
    *("sparsify_blob_embed", "sparsify_blob_embed_audio"),
)
# Handed to clang's front end, -O3 lets its driver call no wasm-opt, which may be of another age.
_WASM = (
    *("-Xclang", "-O3", *(each for each in FLAGS if each not in ("-O3", "-fPIC"))),
    *("-msimd128", "-mbulk-memory", "runtime.c", "engine_base.c", "-o", MODULE),
    *("-Wl,--no-entry,--strip-all,-z,stack-size=65536", "-Wl,--initial-memory=131072"),
    *(f"-Wl,--export={name}" for name in _EXPORTED),
)


@dataclass(frozen=True)
class Target:
    """What a model can be compiled for.

    Attributes:
        name: What the command line calls it.
        library: The compiled file in the folder of an export.
        begins: What tells its kind from others, and the byte at which that begins.
        arguments: What compilers are given, in that folder.
        cross: Compilers that are tried after `$CC` on other machines.
        zig: What `zig cc` needs besides.
        missing: How to get one.
    """

    name: str
    library: str
    begins: tuple[int, bytes]
    arguments: tuple[str, ...]
    cross: tuple[tuple[str, ...], ...]
    zig: tuple[str, ...]
    missing: str

    @property
    def is_own(self) -> bool:
        """Whether this machine runs it."""
        return self.name == own_target()

    def compilers(self) -> Iterator[tuple[str, ...]]:
        """Beginnings of commands, of which one may compile for it: the user's own choice first.

        Raises:
            SparsifyError: `$CC` is not a command.
        """
        try:
            chosen = tuple(shlex.split(os.environ.get("CC", "")))
        except ValueError as error:
            raise SparsifyError(f"the environment variable CC is not a command: {error}") from error
        if chosen:
            yield chosen
        if self.is_own:
            yield from () if chosen else (("cc",),)
            return
        yield from self.cross
        if importlib.util.find_spec("ziglang"):
            yield (sys.executable, "-m", "ziglang", "cc", *self.zig)

    def fits(self, code: bytes) -> bool:
        """Whether compiled code is for this target; of this machine's compiler it always is."""
        at, begin = self.begins
        return self.is_own or code[at : at + len(begin)] == begin


_ELF_MACHINE = 18
TARGETS = {
    each.name: each
    for each in (
        Target(
            "x86",
            LIBRARY,
            (_ELF_MACHINE, b"\x3e\x00"),
            _SHARED,
            (("x86_64-linux-gnu-gcc",),),
            ("-target", "x86_64-linux-gnu.2.17"),
            "Debian's gcc-x86-64-linux-gnu, or pip install ziglang",
        ),
        Target(
            "arm64",
            LIBRARY,
            (_ELF_MACHINE, b"\xb7\x00"),
            _SHARED,
            (("aarch64-linux-gnu-gcc",),),
            ("-target", "aarch64-linux-gnu.2.17"),
            "Debian's gcc-aarch64-linux-gnu, or pip install ziglang",
        ),
        Target(
            "wasm",
            MODULE,
            (0, b"\0asm\1\0\0\0"),
            _WASM,
            (("clang", "--target=wasm32-wasi", "-nostdlib"),),
            ("-target", "wasm32-wasi", "-mexec-model=reactor", "-O3"),
            "Debian's clang, lld and wasi-libc, or pip install ziglang",
        ),
    )
}


_MACHINES = {"x86_64": "x86", "amd64": "x86", "aarch64": "arm64", "arm64": "arm64"}


def own_target() -> str:
    """The name of the target that is this machine, whether or not it is one of `TARGETS`."""
    machine = platform.machine().lower()
    return _MACHINES.get(machine, machine)


def target_named(name: str) -> Target:
    """A target by its name; this machine needs not be one of `TARGETS`.

    Raises:
        SparsifyError: There is none.
    """
    if name in TARGETS:
        return TARGETS[name]
    if name == own_target():
        return Target(name, LIBRARY, (0, b""), _SHARED, (), (), "a C compiler")
    raise SparsifyError(f"unknown target '{name}': {did_you_mean(name, list(TARGETS))}")
