"""How the library reports progress without knowing who displays it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Wraps an iterable of known length so that somebody can watch it being consumed."""

    def __call__(self, items: Iterable[T], description: str, total: int) -> Iterable[T]:
        """The items, unchanged."""
        ...


@contextmanager
def phase(track: Track, description: str) -> Iterator[None]:
    """Lets somebody watch a block that has no parts."""
    for _ in track([None], description, 1):
        yield


def silent(items: Iterable[T], description: str, total: int) -> Iterable[T]:
    """The tracker that shows nothing."""
    return items
