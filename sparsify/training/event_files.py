"""Curves of a training for TensorBoard: event files beside its metrics, while it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sparsify.recipe.recipe import Recipe
from sparsify.runtimes import import_runtime
from sparsify.training.observer import Observer
from sparsify.training.records import Record

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_FOLDER = "tensorboard"
_GROUPS = {
    "sparsity": ("sparsity", "sparsity_target", "macs", "lambda"),
    "validation": ("eer_percent", "corrupted_eer_percent", "min_dcf"),
}
_OTHER_GROUP = "training"


def check_event_files(recipe: Recipe) -> None:
    """Refuses, before anything takes long, a recipe that asks for event files in vain.

    Raises:
        NotInstalledError: TensorBoard is not installed.
    """
    if recipe.training.tensorboard:
        import_runtime("tensorboard", "tensorboard")


class EventFiles(Observer):
    """Writes the figures of every record, and the seconds of a step, into a folder of the run.

    Those of a step that is made again, by a run that was interrupted, take the place of the first.

    Args:
        run: The run directory.
    """

    def __init__(self, run: Path) -> None:
        self.folder = run / _FOLDER
        self._writer: SummaryWriter | None = None
        self._step = 0  # of the last record
        self._since = 0.0  # when the steps after it began
        self._until: float | None = None  # when they ended, if something else has begun

    def started(self, header: Record, first_step: int) -> None:
        """Opens a file; what another has of the steps to come no longer counts."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415, it takes a second

        self._writer = SummaryWriter(str(self.folder), purge_step=first_step + 1)
        self._step, self._since = first_step, time.perf_counter()

    def began(self, phase: str) -> None:
        """Stops the clock of the steps."""
        self._until = self._until or time.perf_counter()

    def logged(self, record: Record) -> None:
        """Writes the record, so that it is seen at once."""
        assert self._writer is not None  # `started` comes first
        until, step = self._until or time.perf_counter(), record["step"]
        seconds = (until - self._since) / (step - self._step)
        for tag, value in _scalars(record | {"seconds_per_step": seconds}):
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()
        self._step, self._since, self._until = step, time.perf_counter(), None

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()


def _scalars(record: Record) -> Iterator[tuple[str, float]]:
    """The numbers of a record, under names in groups."""
    for name, value in record.items():
        group = next((each for each, own in _GROUPS.items() if name in own), _OTHER_GROUP)
        if name != "step" and type(value) in (int, float):
            yield f"{group}/{name}", value
