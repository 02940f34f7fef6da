"""Where a model lies in a folder. Importing this module takes no torch."""

from __future__ import annotations

import shlex
from pathlib import Path

from sparsify.artifact.formats import MODEL_FILE, RECIPE_FILE, is_exported_folder
from sparsify.errors import SparsifyError
from sparsify.models import toolkits


def model_file(path: Path) -> Path:
    """The file of a run directory or of a model folder of another toolkit; else the path itself.

    Raises:
        SparsifyError: It is a folder without a model.
    """
    if not path.is_dir() or is_exported_folder(path):
        return path
    if (own := path / MODEL_FILE).is_file():
        return own
    if (path / RECIPE_FILE).is_file():
        raise SparsifyError(
            f"run '{path}' is not complete: continue it with sparsify train --output"
            f" {shlex.quote(str(path))} --resume"
        )
    if (file := toolkits.model_file(path)) is None:
        raise SparsifyError(
            f"'{path}' is not a run directory: it has no {MODEL_FILE} (nor is it a model folder"
            f" of {toolkits.names()})"
        )
    return file
