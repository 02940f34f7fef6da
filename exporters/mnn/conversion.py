"""MNN's own converter, run in a process of its own: it prints, and a crash would take us along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sparsify.errors import SparsifyError
from sparsify.exporters.mnn.graph import derive_uuid

MAKER = "sparsify"
"""What files of ours say about who made them."""
# The command `mnnconvert` would do the same, but it also loads a module that may install a package
# and report to a server.
_PROGRAM = "import sys, _tools; _tools.mnnconvert(sys.argv)"
_COMMON = ("--bizCode", MAKER)


def convert_onnx(source: Path, output: Path) -> None:
    """Makes a `.mnn` of an `.onnx`, compressing the weights for which MNN has a sparse kernel.

    Raises:
        SparsifyError: MNN cannot convert it.
    """
    _convert("ONNX", source, output, "--detectSparseSpeedUp")


def rewrite(source: Path, output: Path) -> None:
    """Writes a `.mnn` file again, without what is not used in it, and with its zeros as they are.

    Raises:
        SparsifyError: MNN cannot read it.
    """
    _convert("MNN", source, output, "--optimizeLevel", "0")


def _convert(kind: str, source: Path, output: Path, *options: str) -> None:
    files = ("--modelFile", str(source.resolve()), "--MNNModel", str(output.resolve()))
    # -P: a module of that name in the current folder is not MNN's.
    command = [sys.executable, "-P", "-c", _PROGRAM, "-f", kind, *files, *_COMMON, *options]
    with TemporaryDirectory() as own:  # it leaves weights for a moment in the folder where it runs
        result = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, check=False, cwd=own
        )
    if result.returncode == 0 and output.is_file():
        derive_uuid(output)
        return
    said = (result.stdout + result.stderr).decode("utf-8", "replace").strip().splitlines()
    reason = said[-1] if said else f"exit code {result.returncode}"
    raise SparsifyError(f"MNN cannot convert the graph: {reason}")
