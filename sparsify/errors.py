"""The one exception that stands for bad input, and sentences that many of them begin with."""

import difflib
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

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


def first_line(error: BaseException) -> str:
    """The beginning of what a library says."""
    return str(error).strip().partition("\n")[0]


def refused(name: str, shape: Sequence[int], error: Exception) -> SparsifyError:
    """The error of a network that does not take features of some shape.

    Args:
        name: Of the network or its file.
        shape: Of what it was given.
        error: What its engine says.
    """
    return SparsifyError(
        f"'{name}' does not accept features of shape {tuple(shape)}: {first_line(error)}"
    )


def damaged(path: Path, error: BaseException) -> SparsifyError:
    """The sentence for a file that a library could not read."""
    reason = first_line(error) or type(error).__name__
    return SparsifyError(f"'{path}' is damaged or not a {path.suffix} file: {reason[:300]}")


def did_you_mean(name: str, known: Collection[str], before: str = "") -> str:
    """A question with the nearest known name, or the list of all of them.

    Args:
        name: What was given.
        known: What there is.
        before: What stands before the nearest, such as the key of its section and a dot.
    """
    close = difflib.get_close_matches(name[:_LONGEST], known, n=1)
    return f"did you mean '{before}{close[0]}'?" if close else f"known: {', '.join(known)}"
