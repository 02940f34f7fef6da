"""The one exception that stands for bad input, and the hint that mends a misspelt name."""

import difflib
from collections.abc import Collection


class SparsifyError(Exception):
    """Bad input, described in one sentence: what is wrong, where, and how to mend it.

    The command line prints the sentence and exits with code 2.
    """


class FailedElsewhereError(SparsifyError):
    """Another process of the same training has failed, and says why."""


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A question with the nearest known name, or the list of all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
