"""A network as a folder of C code, compiled where there is a compiler."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsify.compiled_code import remember
from sparsify.documents import parse_json, read_text
from sparsify.errors import SparsifyError
from sparsify.exporters.native.engine import source_folder
from sparsify.exporters.native.targets import Target
from sparsify.files import content_digest

logger = logging.getLogger(__name__)

MARKER = "native.json"
BLOB = "weights.bin"
_UNUSED = ("profile.c", "serve.c")  # for measurements and comparisons
_PATIENCE = 300  # seconds for a compiler
_MOST_BYTES = 1 << 24


def write_sources(folder: Path, blob: bytes) -> None:
    """Writes the C code of a network into a new folder.

    Raises:
        OSError: Something cannot be written.
    """
    folder.mkdir()
    for file in source_folder().iterdir():
        if file.is_file() and file.name not in _UNUSED:
            shutil.copyfile(file, folder / file.name)
    (folder / BLOB).write_bytes(blob)


def compile_library(folder: Path, target: Target) -> bool:
    """Compiles the code for a target, which this user's sparsify runs from then on.

    Returns:
        Whether it did; if not, why is logged.
    """
    library = folder / target.library
    library.parent.mkdir(exist_ok=True)
    reasons = []
    for compiler in target.compilers():
        try:
            run_compiler((*compiler, *target.arguments), folder)
            code = library.read_bytes()
        except OSError as error:
            reasons.append(f"{compiler[0]}: {error}")
            continue
        if target.fits(code):
            remember(code)
            return True
        library.unlink()
        reasons.append(f"{compiler[0]} compiles for another machine")
    logger.warning(
        "the C code is written, but not compiled (%s): %s",
        "run make there" if target.is_own else f"{target.name} needs {target.missing}",
        "; ".join(reasons),
    )
    return False


def run_compiler(command: Sequence[str], folder: Path) -> None:
    """Runs a compiler in a folder.

    Raises:
        OSError: There is none, or it fails; the message says why.
    """
    try:
        subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True, timeout=_PATIENCE
        )
    except FileNotFoundError as error:
        raise OSError("there is no such command") from error
    except subprocess.SubprocessError as error:
        words = (getattr(error, "stderr", None) or str(error)).split()
        raise OSError(" ".join(words)[:300]) from error


def write_marker(folder: Path, target: Target, description: Mapping[str, Any]) -> None:
    """Writes what is known of the folder, and the digests of its blob and its compiled library.

    Raises:
        OSError: It cannot be written.
    """
    library = folder / target.library
    digest = content_digest(library) if library.is_file() else None
    digests = {"blob_digest": content_digest(folder / BLOB), "library_digest": digest}
    content = {"format": "native", "target": target.name, **description, **digests}
    (folder / MARKER).write_text(json.dumps(content, indent=2) + "\n")


def read_marker(folder: Path) -> dict[str, Any]:
    """What is known of a folder.

    Raises:
        SparsifyError: It is damaged.
        OSError: It cannot be read.
    """
    path = folder / MARKER
    content = parse_json(read_text(path, _MOST_BYTES), f"'{path}'")
    if not isinstance(content, dict):
        raise SparsifyError(f"'{path}' is damaged: export the model again")
    return content
