"""What the readers of all layouts give: utterances that nobody has looked at yet."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sparsify.speech.corpus import Skipped
from sparsify.speech.utterances import Utterances

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """Utterances as listed, durations NaN where the list has none, and what cannot be used."""

    utterances: Utterances
    skipped: Sequence[Skipped] = ()


@contextmanager
def open_list(path: Path) -> Iterator[TextIO]:
    """Opens a text file that names other files, whose names may be no UTF-8."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        yield stream


def start_of_paths(listed_in: Path, example: str) -> Path:
    """Where a list's relative paths start: its folder or, as in Kaldi recipes, the current one."""
    folder = listed_in.parent
    if not (folder / example).exists() and Path(example).exists():
        logger.info("the paths in %s start at the current folder", listed_in)
        return Path.cwd()
    return folder


def refuse_command(path: str) -> None:
    """Refuses a command in place of a file.

    Raises:
        ValueError: The path ends in `|`.
    """
    if path.endswith("|"):
        raise ValueError(
            f"'{path}' is a command, and none is run here: write its output to a file, name that"
        )
