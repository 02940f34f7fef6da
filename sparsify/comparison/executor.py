"""What the runner asks of whatever runs the commands of a comparison, here or elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

PATIENCE = 20.0  # seconds a command has to end when it is asked to


class LostError(Exception):
    """A command has ended with the machine or the process it was on, and can be run again."""


@dataclass(frozen=True)
class Order:
    """A command of ours that is to be run.

    Attributes:
        arguments: After `sparsify`.
        printed: The file for its standard output, empty.
        log: The file for what else it says, to which that is added.
        lock: The lock on the comparison, which processes inherit that may outlive this one.
    """

    arguments: Sequence[str]
    printed: Path
    log: Path
    lock: IO[str]


class Work(Protocol):
    """A command that was ordered."""

    @property
    def began(self) -> bool:
        """Whether it has been given a place to run."""

    def code(self) -> int | None:
        """Its exit code, or the negative number of the signal that ended it; `None` before that.

        Raises:
            LostError: It has to be run again.
            SparsifyError: It cannot be run there.
        """

    def interrupt(self) -> None:
        """Asks it to end."""

    def end(self) -> None:
        """Waits until it has ended, and makes sure that it does."""


class Executor(Protocol):
    """Runs commands, some of them at a time."""

    @property
    def jobs(self) -> int:
        """How many at a time."""

    def check(self, folder: Path) -> None:
        """Checks that commands will find what they need.

        Args:
            folder: An existing one, in which the comparison keeps its logs.

        Raises:
            SparsifyError: They will not.
        """

    def start(self, order: Order, slot: int) -> Work:
        """Runs a command.

        Args:
            order: What is to be run.
            slot: Which of the `jobs` at a time it is.
        """
