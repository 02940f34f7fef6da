import ctypes
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import sparsify.exporters.native
from sparsify.exporters.native.engine import Engine

from .running import LANES

COMPILER = shlex.split(os.environ.get("CC", "cc"))
WARNINGS = ["-Wall", "-Wextra", "-Wno-psabi", "-Werror"]


@pytest.fixture(scope="session")
def c_sources():
    """The folder of the engine's C code."""
    return Path(sparsify.exporters.native.__path__[0]) / "c"


@pytest.fixture(scope="session")
def compile_c(c_sources):
    """Compiles C code into a program or library, or skips where there is no compiler."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip("there is no C compiler")

    def run(source, output, *options):
        command = [*COMPILER, "-std=gnu11", "-ffp-contract=fast", *WARNINGS, f"-I{c_sources}"]
        command += [*options, "-x", "c", "-", "-o", output, "-lm"]
        subprocess.run(command, input=source, text=True, check=True)
        return output

    return run


@pytest.fixture(scope="session")
def sanitizers(compile_c, tmp_path_factory):
    """Options for a program that stops at the first wrong access; skips where there are none."""
    options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    try:
        compile_c("int main(void) { return 0; }", tmp_path_factory.mktemp("c") / "probe", *options)
    except subprocess.CalledProcessError:
        pytest.skip("the C compiler has no sanitizers")
    return options


@pytest.fixture(scope="session", params=["avx512", "avx2", "base"])
def engine(request):
    """The engine with the instructions of this processor, and with fewer."""
    narrower = {"avx512": (), "avx2": ("AVX512",), "base": ("AVX512", "AVX2")}[request.param]
    made = _engine(*(f"-DSPARSIFY_NO_{each}" for each in narrower))
    if made.instructions != request.param:
        pytest.skip(f"this processor has no {request.param}")
    return made


@pytest.fixture(scope="session")
def widest_engine():
    """The engine with the instructions of this processor."""
    return _engine()


def _engine(*flags):
    try:
        made = Engine((*flags, "-O1"))
    except OSError:
        pytest.skip("there is no C compiler")
    made._library.sparsify_isa.restype = ctypes.c_char_p
    made.instructions = made._library.sparsify_isa().decode()
    made.lanes = LANES[made.instructions]
    return made
