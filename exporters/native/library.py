"""A network as a folder of C code, compiled where there is a compiler."""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsify.compiled_code import remember
from sparsify.documents import parse_json
from sparsify.errors import SparsifyError
from sparsify.exporters.native.engine import ENGINE_SOURCES, FLAGS, source_folder
from sparsify.files import content_digest

logger = logging.getLogger(__name__)

MARKER = "native.json"
LIBRARY = "libmodel.so"
BLOB = "weights.bin"
_LIBRARY = ("model.c", *ENGINE_SOURCES, "threads.c", "weights.S")
_UNUSED = ("profile.c",)  # for measurements
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


def compile_library(folder: Path) -> bool:
    """Compiles `libmodel.so`, which this user's sparsify loads from then on.

    Returns:
        Whether it did; if not, why is logged.
    """
    compiler = shlex.split(os.environ.get("CC", "").strip() or "cc")
    options = [*FLAGS, "-fvisibility=hidden", "-shared", "-Wa,-I."]
    command = [*compiler, *options, "-o", LIBRARY, *_LIBRARY, "-lm", "-pthread"]
    try:
        subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True, timeout=_PATIENCE
        )
        remember((folder / LIBRARY).read_bytes())
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join((getattr(error, "stderr", None) or str(error)).split())[:300]
        logger.warning("the C code is written, but not compiled (run make there): %s", reason)
        return False
    return True


def write_marker(folder: Path, description: Mapping[str, Any]) -> None:
    """Writes what is known of the folder, and the digests of its blob and its compiled library.

    Raises:
        OSError: It cannot be written.
    """
    library = folder / LIBRARY
    digest = content_digest(library) if library.is_file() else None
    digests = {"blob_digest": content_digest(folder / BLOB), "library_digest": digest}
    content = {"format": "native", **description, **digests}
    (folder / MARKER).write_text(json.dumps(content, indent=2) + "\n")


def read_marker(folder: Path) -> dict[str, Any]:
    """What is known of a folder.

    Raises:
        SparsifyError: It is damaged.
        OSError: It cannot be read.
    """
    path = folder / MARKER
    with path.open(encoding="utf-8", errors="replace") as file:
        content = parse_json(file.read(_MOST_BYTES), f"'{path}'")
    if not isinstance(content, dict):
        raise SparsifyError(f"'{path}' is damaged: export the model again")
    return content
