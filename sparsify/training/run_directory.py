"""The files of a training run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from sparsify.artifact.loading import load_artifact
from sparsify.documents import MOST_JSON_BYTES, parse_json, read_text, to_json
from sparsify.errors import SparsifyError
from sparsify.files import clear_temporaries, content_digest, locked, replacing, write_text
from sparsify.recipe.recipe import Recipe, load_recipe
from sparsify.training import checkpoints
from sparsify.training.checkpoints import DamagedError
from sparsify.training.run_files import RunFiles

logger = logging.getLogger(__name__)

State = dict[str, Any]

_DIGESTS = "digests"


class RunDirectory(RunFiles):
    """Recipe, metrics, checkpoints, selected model and summary of one run.

    A checkpoint belongs to what it needs: the metrics so far, which it holds, and the weights of
    validated models, in files of their own. The checkpoint before the last is kept with all that it
    needs, too, so that a run goes on from there when the last one is damaged.

    Args:
        path: The directory; nothing is created before `create`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._logged: list[str] = []
        self._needed: frozenset[int] = frozenset()  # models of the checkpoint on disk

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the directory, and keeps other trainings away from it within the block.

        What a training left that was killed in the middle of writing is removed.

        Raises:
            SparsifyError: Another training is at work here, or the directory cannot be written.
        """
        with ExitStack() as stack:
            try:
                self.checkpoint_file.parent.mkdir(parents=True, exist_ok=True)
                alone = stack.enter_context(locked(self.lock_file))
            except OSError as error:
                raise SparsifyError(f"cannot write '{self.path}': {error.strerror}") from error
            if not alone:
                raise SparsifyError(
                    f"another training is at work in '{self.path}': wait for it or end it"
                )
            self._clear_temporaries()
            yield

    def _clear_temporaries(self) -> None:
        """Those of files that only trainings write; others may be written now, lock or not."""
        for path in (self.recipe_file, self.metrics_file, self.summary_file, self.model_file):
            clear_temporaries(path)
        clear_temporaries(self.checkpoint_file.with_name("*.pt"))

    def create(
        self, recipe: Recipe, start: Mapping[str, Tensor] | None, origin: Mapping[str, Any]
    ) -> None:
        """Writes the recipe of a new run into the directory.

        Args:
            recipe: Of the run.
            start: The weights that it starts from, kept so that resuming needs no other file;
                `None` if they are random.
            origin: What the run is made from, see `sparsify.training.origin`.

        Raises:
            SparsifyError: The directory cannot be written.
        """
        weights = None if start is None else dict(start)
        content = {"step": 0, "models": [], "metrics": "", "weights": weights, "origin": origin}
        _store(self.start_file, content)
        write_text(self.metrics_file, "")
        write_text(self.recipe_file, recipe.to_yaml())

    def saved_recipe(self) -> Recipe:
        """The recipe of the run that is here.

        Raises:
            SparsifyError: There is no run here, or it is damaged.
        """
        self.check_begun()
        self._warn_if_changed(self.recipe_file)
        try:
            return load_recipe(self.recipe_file)
        except SparsifyError as error:
            raise SparsifyError(f"{error}: restore it, or delete '{self.path}'") from error

    def log(self, record: Mapping[str, Any]) -> None:
        """Appends a record to the metrics."""
        line = to_json(record) + "\n"
        self._logged.append(line)
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(line)

    def metrics(self) -> list[dict[str, Any]]:
        """The records so far; lines that are none, as after a crash, are left out.

        Raises:
            SparsifyError: The file is gone, unreadable or far too large.
        """
        if not self.metrics_file.is_file():
            raise SparsifyError(
                f"'{self.metrics_file}' is gone: restore it, or delete '{self.path}' and train anew"
            )
        self._warn_if_changed(self.metrics_file)
        *lines, unfinished = read_text(self.metrics_file, MOST_JSON_BYTES).split("\n")
        found = [_record(line) for line in lines if line]
        if None in found:
            logger.warning(
                "%d lines of '%s' are no records and are left out",
                found.count(None),
                self.metrics_file,
            )
        return [record for record in (*found, _record(unfinished)) if record is not None]

    def save_checkpoint(self, state: State, models: Collection[int]) -> None:
        """Replaces the checkpoint, which is kept as the previous one.

        Args:
            state: What a resumed run needs to know.
            models: After which steps the validated models were that it needs; those that neither it
                nor the previous checkpoint needs are deleted.
        """
        content = state | {"models": sorted(models), "metrics": "".join(self._logged)}
        packed = checkpoints.packed(content)
        with replacing(self.checkpoint_file) as temporary:
            temporary.write_bytes(packed)
            if self.checkpoint_file.exists():
                self.checkpoint_file.replace(self.previous_file)
        kept = {self._validated_file(step) for step in self._needed.union(models)}
        for path in self.checkpoint_file.parent.glob("step-*.pt"):
            if path not in kept:
                path.unlink()
        self._needed = frozenset(models)

    def load_checkpoint(self) -> State:
        """The checkpoint: the last, or if that is damaged the previous one, or the run's start.

        Raises:
            SparsifyError: They are damaged.
        """
        problems = []
        for file in (self.checkpoint_file, self.previous_file):
            try:
                state = checkpoints.load(file)
                for step in state["models"]:
                    checkpoints.check(self._validated_file(step))
            except DamagedError as error:
                problems.append(str(error))
                continue
            except (LookupError, TypeError) as error:
                problems.append(f"'{file}' is no checkpoint ({error!r})")
                continue
            if problems:
                logger.warning("%s: going on from '%s'", problems[0], file)
                file.replace(self.checkpoint_file)  # the next one must not take its place
            return state
        if self.checkpoint_file.exists() or self.previous_file.exists():
            remedy = "start the run anew in another --output"
            if self.start_file.exists():
                remedy = "delete both checkpoints to start the run anew with --resume"
            raise SparsifyError(f"{' and '.join(dict.fromkeys(problems))}: {remedy}")
        return self.load_start()

    def load_start(self) -> State:
        """What the run started from: `weights` and `origin`.

        Raises:
            SparsifyError: That is missing or damaged.
        """
        try:
            return checkpoints.load(self.start_file)
        except DamagedError as error:
            raise SparsifyError(f"{error}: start the run anew in another --output") from error

    def rewind(self, state: State) -> None:
        """Makes the metrics those of a checkpoint, whatever has become of them since."""
        self._needed = frozenset(state["models"])
        self._logged = state["metrics"].splitlines(keepends=True)
        write_text(self.metrics_file, state["metrics"])

    def save_validated(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keeps the weights of a validated model, which may be delivered or averaged."""
        _store(self._validated_file(step), weights)

    def load_validated(self, step: int) -> dict[str, Tensor]:
        """The weights of a validated model.

        Raises:
            SparsifyError: They are missing or damaged.
        """
        try:
            return checkpoints.load(self._validated_file(step))
        except DamagedError as error:
            raise SparsifyError(f"{error}: go on from an earlier checkpoint by --resume") from error

    def _validated_file(self, step: int) -> Path:
        return self.checkpoint_file.with_name(f"step-{step}.pt")

    def write_summary(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the summary, which marks the run as complete and seals its texts; returns it."""
        content: dict[str, Any] = parse_json(to_json(summary), "the summary")
        digests = {
            self.recipe_file.name: _digest(self.recipe_file.read_bytes()),
            self.metrics_file.name: _digest("".join(self._logged).encode()),
            self.summary_file.name: _digest(to_json(content).encode()),
        }
        write_text(self.summary_file, to_json(content | {_DIGESTS: digests}, indent=2) + "\n")
        return content

    def summary(self) -> dict[str, Any] | None:
        """The summary, or `None` while the run is incomplete.

        Raises:
            SparsifyError: The summary is damaged.
        """
        return self._summary()[0]

    def complete(self) -> dict[str, Any] | None:
        """The summary, or `None` where resuming has something to do.

        That is also so where summary or model are gone or damaged, which is logged: the checkpoint
        delivers them again.
        """
        try:
            summary = self.summary()
            if summary is not None:
                load_artifact(self.model_file)
        except SparsifyError as error:
            logger.warning("%s; the end of the run is made again from its checkpoint", error)
            return None
        return summary

    def _summary(self) -> tuple[dict[str, Any] | None, dict[str, str]]:
        """The summary and the digests of the run's texts, as far as it has them."""
        if not self.summary_file.is_file():
            return None, {}
        remedy = "delete it and finish the run with --resume"
        try:
            content = parse_json(read_text(self.summary_file, MOST_JSON_BYTES), "it")
        except SparsifyError as error:
            raise SparsifyError(f"'{self.summary_file}' is damaged: {remedy} ({error})") from error
        digests = content.pop(_DIGESTS, {}) if isinstance(content, dict) else None
        if not isinstance(digests, dict):
            raise SparsifyError(f"'{self.summary_file}' is damaged: {remedy}")
        if digests.get(self.summary_file.name, own := _digest(to_json(content).encode())) != own:
            raise SparsifyError(f"'{self.summary_file}' is damaged: {remedy}")
        return content, digests

    def _warn_if_changed(self, file: Path) -> None:
        """Looks whether a text of a complete run is as it was when the run ended."""
        digest = self._summary()[1].get(file.name)
        if digest is None:
            return
        if file.stat().st_size > MOST_JSON_BYTES or digest != content_digest(file):
            logger.warning("'%s' has been changed or damaged since the run ended", file)


def _record(line: str) -> dict[str, Any] | None:
    """The record on a line of the metrics, if it is one."""
    try:
        record = parse_json(line, "a record")
    except SparsifyError:
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    return record


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _store(path: Path, content: Mapping[str, Any]) -> None:
    packed = checkpoints.packed(content)
    with replacing(path) as temporary:
        temporary.write_bytes(packed)
