"""The files of a training run."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pickle
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsify.artifact import MODEL_FILE
from sparsify.errors import SparsifyError
from sparsify.files import holds_alone, replacing
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
        self.start_file = path / "checkpoints" / "start.pt"
        self.lock_file = path / ".lock"

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
        if self.path.exists() and not (self.path.is_dir() and self._holds_nothing()):
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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the directory, and keeps other trainings away from it within the block.

        Raises:
            SparsifyError: Another training is at work here, or the directory cannot be created.
        """
        try:
            self.checkpoint_file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SparsifyError(f"cannot create '{self.path}': {error.strerror}") from error
        with self.lock_file.open("w") as lock:
            # This kind of lock ends with this very process, whatever it has forked.
            if not holds_alone(lock, fcntl.lockf):
                raise SparsifyError(
                    f"another training is at work in '{self.path}': wait for it or end it"
                )
            try:
                yield
            finally:
                self.lock_file.unlink(missing_ok=True)

    def create(self, recipe: Recipe, start: Mapping[str, Tensor] | None) -> None:
        """Writes the recipe of a new run into the directory.

        Args:
            recipe: Of the run.
            start: The weights that it starts from, kept so that resuming needs no other file;
                `None` if they are random.

        Raises:
            SparsifyError: The directory cannot be written.
        """
        if start is not None:
            self._store(self.start_file, start)
        _write(self.metrics_file, "")
        _write(self.recipe_file, recipe.to_yaml())

    def saved_recipe(self) -> Recipe:
        """The recipe of the run that is here.

        Raises:
            SparsifyError: There is no run here, or it is damaged.
        """
        if not self.recipe_file.is_file():
            raise SparsifyError(f"nothing to resume: '{self.path}' holds no run")
        try:
            return load_recipe(self.recipe_file)
        except SparsifyError as error:
            raise SparsifyError(f"{error}: restore it, or delete '{self.path}'") from error

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends a record to the metrics."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The records so far; a line that a crash cut short is left out.

        Raises:
            SparsifyError: The file is gone.
        """
        if not self.metrics_file.is_file():
            raise SparsifyError(
                f"'{self.metrics_file}' is gone: restore it, or delete '{self.path}' and train anew"
            )
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
        self._store(self.checkpoint_file, state)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The checkpoint, on the CPU, or `None` if the run has not come to its first.

        Raises:
            SparsifyError: The checkpoint is damaged.
        """
        return self._load(self.checkpoint_file, "delete it to start the run anew with --resume")

    def load_start(self) -> dict[str, Tensor]:
        """The weights that the run started from.

        Raises:
            SparsifyError: They are missing or damaged.
        """
        return self._needed(self.start_file)

    def validated_file(self, step: int) -> Path:
        """The weights of a model that was validated after a step and may be averaged."""
        return self.checkpoint_file.with_name(f"step-{step}.pt")

    def save_validated(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keeps the weights of a validated model."""
        self._store(self.validated_file(step), weights)

    def load_validated(self, step: int) -> dict[str, Tensor]:
        """The weights of a validated model.

        Raises:
            SparsifyError: They are missing or damaged.
        """
        return self._needed(self.validated_file(step))

    def keep_validated(self, steps: Collection[int]) -> None:
        """Deletes the weights of validated models of all other steps."""
        kept = {self.validated_file(step) for step in steps}
        for path in self.checkpoint_file.parent.glob("step-*.pt"):
            if path not in kept:
                path.unlink()

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

    def _needed(self, path: Path) -> dict[str, Any]:
        content = self._load(path, "start the run anew in another --output")
        if content is None:
            raise SparsifyError(f"cannot resume: '{path}' is gone, restore it")
        return content

    def _store(self, path: Path, content: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()  # writing to a file, torch.save has no words for a full disk
        torch.save(dict(content), buffer)
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def _load(self, path: Path, remedy: str) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise SparsifyError(f"checkpoint '{path}' is damaged: {remedy}") from error
        return content


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
