"""Ctrl-C while compiled code runs, in which Python would hear of it only in the end."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_STOPS: set[Callable[[], None]] = set()


@contextmanager
def stopped_by(stop: Callable[[], None]) -> Iterator[None]:
    """Where Ctrl-C calls something that makes compiled code return.

    Whatever that raises then, `KeyboardInterrupt` takes its place.

    Args:
        stop: Called in another thread; without effect before `listen`.
    """
    _STOPS.add(stop)
    try:
        yield
    finally:
        _STOPS.discard(stop)


@cache
def listen() -> None:
    """Hears of Ctrl-C in a thread of its own, from now on.

    To be called in the main thread, by a program rather than a library: a process has one place
    that signals wake up.
    """
    waking, heard = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=(heard, waking), daemon=True).start()


def _hear(heard: socket.socket, _: socket.socket) -> None:
    """Reads the numbers of signals; holds the end that is written to open."""
    while numbers := heard.recv(64):
        if signal.SIGINT in numbers:
            for stop in tuple(_STOPS):
                stop()
