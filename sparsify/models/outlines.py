"""What registered networks look like: the parameters of each, and how often they multiply.

Finding that out takes PyTorch, whose import takes seconds, but depends on the architecture alone.
Of the networks of all recipes it is in a file (`sparsify.models.outlining` writes it); of others
it is kept in the user's cache, under a digest of the code that finds it. Importing this module
takes no torch.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any, NamedTuple

import numpy as np

from sparsify.arrays import Array
from sparsify.models.registry import Architecture
from sparsify.named import named
from sparsify.sparsity.selection import EVERYTHING, Selection
from sparsify.sparsity.table import Kind
from sparsify.user_cache import Shelf, code_digest

FILE = "outlines.jsonl"
"""Beside this module: in each line a question and the answer to it."""
_SHELF = Shelf("networks", 1 << 24)
_VERSIONED = ("torch", "sparsify-speaker")
_FINDING = ("sparsify.models", "sparsify.sparsity")
"""The packages whose code decides what is found."""
_FINDERS = "sparsify.models.outlining"


class Entry(NamedTuple):
    """A tensor of a state dict, without its values."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Outline:
    """A network without values.

    Attributes:
        state: Its state dict.
        kinds: What its parameters are, in their order.
    """

    state: Mapping[str, Entry]
    kinds: Mapping[str, Kind]


class Question(NamedTuple):
    """What is asked of a network.

    Attributes:
        finder: The function that finds the answer, which is JSON.
        architecture: The network, as `Architecture.to_json` has it.
        arguments: What else the function is given.
    """

    finder: str
    architecture: dict[str, Any]
    arguments: list[Any]


def outline_question(architecture: Architecture, selection: Selection = EVERYTHING) -> Question:
    """The question that `outline_of` asks."""
    patterns = [[each] if isinstance(each, str) else list(each) for each in selection]
    return Question("outlined", architecture.to_json(), patterns)


def outline_of(architecture: Architecture, selection: Selection = EVERYTHING) -> Outline:
    """The outline of a registered network.

    Args:
        architecture: Its architecture.
        selection: What may become sparse, in spite of the rule.

    Raises:
        SparsifyError: There is no such network, or a pattern of the selection fits nothing.
    """
    state, kinds = _answer(outline_question(architecture, selection))
    return Outline(
        {name: Entry(tuple(shape), dtype) for name, (shape, dtype) in state.items()},
        {name: Kind(*kind) for name, kind in kinds.items()},
    )


def uses_question(architecture: Architecture, frames: int, bins: int) -> Question:
    """The question that `uses_in` asks."""
    return Question("uses", architecture.to_json(), [frames, bins])


def uses_in(architecture: Architecture, frames: int, bins: int) -> dict[str, Array]:
    """How often the weights of a registered network multiply for one utterance.

    Args:
        architecture: Its architecture.
        frames: Of the utterance.
        bins: Filterbank bins per frame.

    Returns:
        int64, by name, to be broadcast to the weight; see `sparsify.sparsity.uses.uses_of`.

    Raises:
        SparsifyError: There is no such network, or it does something that is not counted.
        RuntimeError: It does not take such features; also `ValueError` and `LookupError`.
    """
    uses = _answer(uses_question(architecture, frames, bins))
    return {
        name: np.repeat(np.array(values, dtype=np.int64), lengths).reshape(shape)
        for name, (shape, values, lengths) in uses.items()
    }


def found(question: Question) -> Any:
    """The answer, found out anew, for which PyTorch is imported."""
    architecture = Architecture(**question.architecture)
    return named(f"{_FINDERS}:{question.finder}")(architecture, *question.arguments)


def _answer(question: Question) -> Any:
    """What is known, or is found now and kept."""
    try:
        asked = json.dumps(question, sort_keys=True)
    except TypeError:  # options that no file can have
        return found(question)
    if asked in (known := _known()):
        return json.loads(known[asked])
    told = {
        "asked": asked,
        "versions": {name: metadata.version(name) for name in _VERSIONED},
        "code": code_digest(*_FINDING),
    }
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    if content := _SHELF.get(key):
        return json.loads(zlib.decompress(content))
    answer = found(question)
    _SHELF.put(key, zlib.compress(json.dumps(answer).encode()))
    return answer


@functools.cache
def _known() -> dict[str, str]:
    """Answers by questions, of the file that ships."""
    lines = (resources.files(__package__) / FILE).read_text("utf-8").splitlines()
    return dict(zip(lines[::2], lines[1::2], strict=True))
