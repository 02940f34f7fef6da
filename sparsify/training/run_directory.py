"""The files of a training run."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sparsify.artifact import MODEL_FILE
from sparsify.errors import SparsifyError
from sparsify.files import replacing
from sparsify.recipe import Recipe, load_recipe


class RunDirectory:
    """Recipe, metrics, checkpoint, selected model and summary of one run.

    Args:
        path: The directory; nothing is created before `create`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.yaml"
        self.metrics_file = path / "metrics.jsonl"
        self.summary_file = path / "summary.json"
        self.model_file = path / MODEL_FILE
        self.checkpoint_file = path / "checkpoints" / "last.pt"

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
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise SparsifyError(f"'{self.path}' exists and is not empty: choose another --output")
        parent = self.path
        while not parent.exists():
            parent = parent.absolute().parent
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise SparsifyError(
                f"cannot create '{self.path}': '{parent}' is not a writable directory"
            )

    def create(self, recipe: Recipe) -> None:
        """Creates the directory and writes the recipe.

        Raises:
            SparsifyError: The directory cannot be written.
        """
        try:
            self.checkpoint_file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SparsifyError(f"cannot create '{self.path}': {error.strerror}") from error
        _write(self.recipe_file, recipe.to_yaml())
        _write(self.metrics_file, "")

    def saved_recipe(self) -> Recipe:
        """The recipe of the run that is here.

        Raises:
            SparsifyError: There is no run here.
        """
        if not self.recipe_file.is_file():
            raise SparsifyError(f"nothing to resume: '{self.path}' holds no run")
        return load_recipe(self.recipe_file)

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends a record to the metrics."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The records so far; a line that a crash cut short is left out."""
        records = []
        for line in self.metrics_file.read_text("utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return records

    def forget_after(self, step: int) -> None:
        """Drops the metrics of steps that will be run again."""
        kept = [record for record in self.metrics() if record["step"] <= step]
        _write(self.metrics_file, "".join(json.dumps(record) + "\n" for record in kept))

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint."""
        with replacing(self.checkpoint_file) as temporary:
            torch.save(dict(state), temporary)

    def load_checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """The checkpoint, or `None` if the run has not come to its first.

        Raises:
            SparsifyError: The checkpoint is damaged.
        """
        if not self.checkpoint_file.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(
                self.checkpoint_file, map_location=device, weights_only=True
            )
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise SparsifyError(
                f"checkpoint '{self.checkpoint_file}' is damaged:"
                " delete it to start the run anew with --resume"
            ) from error
        return state

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the summary, which marks the run as complete."""
        _write(self.summary_file, json.dumps(summary, indent=2) + "\n")

    def summary(self) -> dict[str, Any] | None:
        """The summary, or `None` while the run is incomplete.

        Raises:
            SparsifyError: The summary is damaged.
        """
        if not self.summary_file.is_file():
            return None
        try:
            content: dict[str, Any] = json.loads(self.summary_file.read_text("utf-8"))
        except ValueError as error:
            raise SparsifyError(
                f"'{self.summary_file}' is damaged: delete it and finish the run with --resume"
            ) from error
        return content


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
