"""Where the files of a training run are. Importing this module takes no torch."""

from __future__ import annotations

import os
from pathlib import Path

from sparsify.artifact.formats import MODEL_FILE, RECIPE_FILE
from sparsify.errors import SparsifyError


class RunFiles:
    """The files of a run, there or not.

    Args:
        path: Its directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / RECIPE_FILE
        self.metrics_file = path / "metrics.jsonl"
        self.summary_file = path / "summary.json"
        self.model_file = path / MODEL_FILE
        self.checkpoint_file = path / "checkpoints" / "last.pt"
        self.previous_file = path / "checkpoints" / "previous.pt"
        self.start_file = path / "checkpoints" / "start.pt"
        self.lock_file = path / ".lock"

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint that is later than the start."""
        return self.checkpoint_file.is_file() or self.previous_file.is_file()

    def check_free(self) -> None:
        """Checks that a new run can be created here, without creating anything.

        Raises:
            SparsifyError: The path exists already, or cannot be created.
        """
        if self.recipe_file.exists():
            raise SparsifyError(
                f"'{self.path}' holds a run already: continue it with --resume,"
                " or choose another --output"
            )
        if os.path.lexists(self.path) and not (self.path.is_dir() and self._holds_nothing()):
            raise SparsifyError(f"'{self.path}' exists and is not empty: choose another --output")
        parent = self.path
        while not parent.exists():
            parent = parent.absolute().parent
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise SparsifyError(
                f"cannot create '{self.path}': '{parent}' is not a writable directory"
            )

    def _holds_nothing(self) -> bool:
        """Whether the directory has no more than a process leaves that is killed in `create`."""
        own = (self.start_file, self.checkpoint_file.parent)
        return all(
            path in own
            or (path.is_file() and path.name.startswith("."))  # half written, or the lock
            or (path == self.metrics_file and not path.stat().st_size)
            for path in self.path.rglob("*")
        )

    def check_begun(self) -> None:
        """Checks that there is a run here.

        Raises:
            SparsifyError: There is none.
        """
        if not self.recipe_file.is_file():
            raise SparsifyError(f"nothing to resume: '{self.path}' holds no run")
