"""The one exception that stands for bad input, and the hint that mends a misspelt name."""

import difflib
import unicodedata
from collections.abc import Collection

_LONGEST = 500  # characters of a sentence
_END = 150  # of them from its end, where it says how to mend what is wrong


class SparsifyError(Exception):
    """Bad input, described in one sentence: what is wrong, where, and how to mend it.

    The command line prints the sentence and exits with code 2. Names and values in it may come from
    anybody's file: lines are joined, control characters replaced, and what is too long is left out.
    """

    def __init__(self, sentence: str) -> None:
        if len(sentence) > _LONGEST:
            sentence = f"{sentence[: _LONGEST - _END]} … {sentence[-_END:]}"
        line = " ".join(part.strip() for part in sentence.splitlines())
        super().__init__("".join("?" if unicodedata.category(c)[0] == "C" else c for c in line))


class NotFiniteError(ArithmeticError):
    """A number that training made is NaN or infinite."""


class FailedElsewhereError(SparsifyError):
    """Another process of the same training has failed, and says why."""


def did_you_mean(name: str, known: Collection[str], before: str = "") -> str:
    """A question with the nearest known name, or the list of all of them.

    Args:
        name: What was given.
        known: What there is.
        before: What stands before the nearest, such as the key of its section and a dot.
    """
    close = difflib.get_close_matches(name[:_LONGEST], known, n=1)
    return f"did you mean '{before}{close[0]}'?" if close else f"known: {', '.join(known)}"
