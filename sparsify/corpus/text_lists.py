"""Text files that list audio: how they are opened and read, and where their paths start."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from sparsify.errors import SparsifyError

logger = logging.getLogger(__name__)

MOST_SECONDS = 1e9  # 30 years
_LONGEST_LINE = 1 << 20


@contextmanager
def open_list(path: Path) -> Iterator[TextIO]:
    """Opens a text file that names other files, whose names may be no UTF-8."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        yield stream


def lines_of(stream: TextIO) -> Iterator[str]:
    """The lines of a list.

    Raises:
        SparsifyError: One is too long to be in a list.
    """
    for number, line in enumerate(iter(partial(stream.readline, _LONGEST_LINE), ""), 1):
        if len(line) == _LONGEST_LINE:
            raise SparsifyError(
                f"{stream.name}, line {number}: longer than {_LONGEST_LINE >> 10} KiB, so"
                " that this is no list: give a text file with one utterance per line"
            )
        yield line


def start_of_paths(listed_in: Path, example: str) -> Path:
    """Where a list's relative paths start: its folder or, as in Kaldi recipes, the current one."""
    folder = listed_in.parent
    # A name too long for the system is no error here but a missing file.
    if not os.path.exists(folder / example) and os.path.exists(example):
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
