"""Texts that have to fit somewhere, and what signals are called."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def shortened(text: str, letters: int, head: int | None = None) -> str:
    """A text without its middle, if it has more letters.

    Args:
        text: Of one line.
        letters: The most, 1 at least.
        head: How many of these are left of its beginning; half of them where not given.
    """
    if len(text) <= letters:
        return text
    head = letters // 2 if head is None else head
    return f"{text[:head]}…{text[len(text) - (letters - 1 - head) :]}"


def shortened_apart(texts: Sequence[str], letters: int) -> list[str]:
    """The same of several, cut as near to the middle as leaves the most of them different."""
    middle = letters // 2
    heads = sorted(range(letters), key=lambda head: abs(head - middle))
    return max(
        ([shortened(text, letters, head) for text in texts] for head in heads),
        key=lambda short: len(set(short)),
    )


def signal_name(number: int) -> str:
    """What a signal is called, as in `signal SIGKILL`; those for real time have numbers alone."""
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
