"""Who hears of a training run while it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from sparsify.training.records import Record


class Observer:
    """Hears of a run while it goes on; this one ignores it all."""

    def started(self, header: Record, first_step: int) -> None:
        """The run is about to take the step after `first_step`."""

    def stepped(self, step: int) -> None:
        """A step is done."""

    def began(self, phase: str) -> None:
        """Something else than steps has begun, such as `validating`; the next step ends it."""

    def logged(self, record: Record) -> None:
        """A record was written to the metrics."""

    def averaged(self, record: Record) -> None:
        """The average of several models was validated; `average` in the summary."""


class Observers(Observer):
    """Several that hear the same, in their order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers

    def started(self, header: Record, first_step: int) -> None:
        """Tells all of them."""
        for each in self.observers:
            each.started(header, first_step)

    def stepped(self, step: int) -> None:
        """Tells all of them."""
        for each in self.observers:
            each.stepped(step)

    def began(self, phase: str) -> None:
        """Tells all of them."""
        for each in self.observers:
            each.began(phase)

    def logged(self, record: Record) -> None:
        """Tells all of them."""
        for each in self.observers:
            each.logged(record)

    def averaged(self, record: Record) -> None:
        """Tells all of them."""
        for each in self.observers:
            each.averaged(record)
