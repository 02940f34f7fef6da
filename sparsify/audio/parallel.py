"""Cores, threads for work that waits for disks or releases the GIL, and loader processes."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sparsify.progress import Track

A = TypeVar("A")
R = TypeVar("R")

# How the processes of data loaders start: forked ones share the corpus instead of copying it.
PROCESSES = "fork" if sys.platform == "linux" else None

_AHEAD = 4  # items per thread; a million futures at once would fill the memory


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    function: Callable[[A], R],
    items: Sequence[A],
    track: Track,
    description: str,
    threads: int = 8,
) -> Iterator[R]:
    """Maps in order with a few threads, and not far ahead of what is taken."""
    with ThreadPoolExecutor(threads) as executor:

        def results() -> Iterator[R]:
            pending: deque[Future[R]] = deque()
            try:
                for item in items:
                    pending.append(executor.submit(function, item))
                    if len(pending) > _AHEAD * threads:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

        yield from track(results(), description, len(items))
