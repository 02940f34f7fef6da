"""Texts that have to fit somewhere."""

from __future__ import annotations


def shortened(text: str, letters: int) -> str:
    """A text without its middle, if it has more letters."""
    if len(text) <= letters:
        return text
    return f"{text[: letters // 2]}…{text[len(text) - (letters - 1) // 2 :]}"
