import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import sparsify.exporters.native

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
