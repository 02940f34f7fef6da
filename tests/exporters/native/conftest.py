import ctypes
import functools
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from sparsify.artifact.loading import load_artifact
from sparsify.exporters.native.engine import ENGINE_SOURCES, Engine
from sparsify.exporters.native.exporter import NativeExporter
from sparsify.exporters.native.targets import own_target

from ...compiling import WARNINGS, compiling
from .machines import EXACT, Here, Remote

ARM64 = "aarch64-linux-gnu-gcc", "qemu-aarch64"
ARM64_ENGINES = {
    "neon": ((), "cortex-a72", EXACT),
    "neon-fp16": (("-DSPARSIFY_HALF",), "max", 2e-2),
}
"""Options, a processor that has these instructions, and the tolerance of half precision."""

WASM = "clang", "wasm-ld", "node"

# What the engine is asked on another machine, beside its own functions.
QUESTIONS = """
#include <stdint.h>
const char *sparsify_isa(void);
int instructions(char *name) {
  const char *isa = sparsify_isa();
  while ((*name++ = *isa++));
  return 0;
}
#ifdef __aarch64__
int flush_denormals(int on) {
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  control = on ? control | 1 << 24 : control & ~(UINT64_C(1) << 24);
  __asm__ volatile("msr fpcr, %0" : : "r"(control));
  return 0;
}
#endif
"""


def need_target(target):
    """Skips where an export for another machine is not compiled, or not run."""
    if target == own_target():
        pytest.skip(f"this machine is {target}")
    _need({"arm64": ARM64, "wasm": WASM}[target])


@pytest.fixture(scope="session")
def exported_for(artifacts, once):
    """The folder of `sparse_model` for another machine, by its name."""

    def of(target):
        need_target(target)

        def make(folder):
            artifact = load_artifact(artifacts["dense"])
            NativeExporter(target).write(artifact, folder / "model", "dense")

        return once(f"native-{target}", make) / "model"

    return of


@pytest.fixture(scope="session")
def arm64_tools():
    """A cross compiler and an emulator for arm64, or skips where there are none."""
    _need(ARM64)
    return ARM64


@pytest.fixture(scope="session")
def compile_arm64(arm64_tools, c_sources):
    """Compiles C code into a program for arm64."""
    return compiling(arm64_tools[0], "-static", f"-I{c_sources}")


@pytest.fixture(scope="session")
def arm64(arm64_tools, compile_arm64, tmp_path_factory):
    """Starts C code on an arm64 processor, whose functions can then be called."""
    with ExitStack() as machines:

        def start(source, functions, *options, cpu="cortex-a72"):
            program = tmp_path_factory.mktemp("arm64") / "program"
            table = "-DFUNCTIONS=" + " ".join(f"F({each})" for each in functions)
            sources = Path(__file__).with_name("remote.c"), *options
            compile_arm64(source, program, "-O1", "-fno-math-errno", table, *sources)
            machine = Remote([arm64_tools[1], "-cpu", cpu, program], flushes=True)
            machines.callback(machine.close)
            return machine

        yield start


def _need(tools):
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")


@pytest.fixture(scope="session")
def wasm(c_sources, tmp_path_factory):
    """Starts C code in WebAssembly; skips where there is no compiler for it, or no node."""
    _need(WASM)
    compiler, _, node = WASM
    with ExitStack() as machines:

        def start(source, functions, *options):
            module = tmp_path_factory.mktemp("wasm") / "module.wasm"
            command = [compiler, "--target=wasm32-wasi", "-std=gnu11", "-ffp-contract=fast"]
            command += [
                "-fno-math-errno",
                "-msimd128",
                "-mbulk-memory",
                *WARNINGS,
                f"-I{c_sources}",
            ]
            command += ["-Xclang", "-O1", "-nostdlib", "-Wl,--no-entry", *options, "-x", "c", "-"]
            command += [f"-Wl,--export={each}" for each in ("__heap_base", *functions)]
            subprocess.run([*command, "-o", module], input=source, text=True, check=True)
            program = Path(__file__).with_name("remote.mjs")
            machine = Remote([node, program, module], flushes=False)
            machines.callback(machine.close)
            return machine

        yield start


@pytest.fixture(scope="session")
def wasm_engine(wasm, c_sources):
    """The engine in WebAssembly."""
    functions = "sparsify_blob_workspace", "sparsify_blob_embed", "instructions"
    machine = wasm(QUESTIONS, functions, *(c_sources / name for name in ENGINE_SOURCES))
    name = np.zeros(16, np.uint8)
    machine.call("instructions", name)
    assert name.tobytes().rstrip(b"\0") == b"simd128"
    return machine


@pytest.fixture(scope="session")
def arm64_engine(arm64, c_sources):
    """The engine on an arm64 processor, by its instructions."""
    functions = "sparsify_blob_workspace", "sparsify_blob_embed", "instructions", "flush_denormals"
    sources = [c_sources / name for name in ENGINE_SOURCES]

    @functools.cache
    def start(instructions):
        options, cpu, tolerance = ARM64_ENGINES[instructions]
        machine = arm64(QUESTIONS, functions, *options, *sources, cpu=cpu)
        machine.half_tolerance = tolerance
        name = np.zeros(16, np.uint8)
        machine.call("instructions", name)
        assert name.tobytes().rstrip(b"\0").decode() == instructions
        return machine

    return start


@pytest.fixture(scope="session", params=["avx512", "avx2", "base", *ARM64_ENGINES, "wasm"])
def engine(request):
    """The engine with the instructions of this processor, with fewer, and of other processors."""
    if request.param == "wasm":
        return request.getfixturevalue("wasm_engine")
    if request.param in ARM64_ENGINES:
        return request.getfixturevalue("arm64_engine")(request.param)
    narrower = {"avx512": (), "avx2": ("AVX512",), "base": ("AVX512", "AVX2")}[request.param]
    made = _library(*(f"-DSPARSIFY_NO_{each}" for each in narrower))
    made.sparsify_isa.restype = ctypes.c_char_p
    if made.sparsify_isa().decode() != request.param:
        pytest.skip(f"this processor has no {request.param}")
    return Here(made)


@pytest.fixture(params=["here", "neon", "wasm"])
def widest_engine(request):
    """The engine with the instructions of this processor, and of other processors."""
    if request.param == "here":
        return Here(_library())
    if request.param == "wasm":
        return request.getfixturevalue("wasm_engine")
    return request.getfixturevalue("arm64_engine")(request.param)


@functools.cache
def _library(*flags):
    try:
        return Engine((*flags, "-O1"))._library
    except OSError:
        pytest.skip("there is no C compiler")
