"""The toolkits whose checkpoints are read: a list, and one way to ask all that is on it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from sparsify.arrays import Array
    from sparsify.models.foreign import ForeignModel

# By the names that their makers write: the module, which is imported when it is first asked, and a
# file without which a folder is not theirs, and nobody need be asked.
TOOLKITS = {
    "SpeechBrain": ("sparsify.models.speechbrain", "embedding_model.ckpt"),
    "WeSpeaker": ("sparsify.models.wespeaker", "config.yaml"),
}


class Toolkit(Protocol):
    """What the module of a toolkit has."""

    def model_file(self, folder: Path) -> Path | None:
        """The model file of one of its folders, `None` if the folder is none."""

    def interpret(self, file: Path, tensors: Mapping[str, Array]) -> ForeignModel | None:
        """What a state dict holds in our terms, `None` if it is not of this toolkit."""

    def without_head(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """A state dict without what only the training needed."""


def names() -> str:
    """All of them, such as "SpeechBrain or WeSpeaker"."""
    return " or ".join(TOOLKITS)


def model_file(folder: Path) -> Path | None:
    """The model file of a folder as some toolkit makes it, `None` if it is none of them.

    Raises:
        SparsifyError: It looks like a toolkit's, but has no such file.
    """
    found = (toolkit.model_file(folder) for toolkit in _toolkits(folder))
    return next((file for file in found if file), None)


def interpret(file: Path, tensors: Mapping[str, Array]) -> ForeignModel | None:
    """What a state dict of some toolkit holds, `None` if it is of none of them.

    Raises:
        UnsupportedModelError: It cannot be represented here; says why.
        SparsifyError: What lies beside it cannot be read.
    """
    found = (toolkit.interpret(file, tensors) for toolkit in _toolkits())
    return next((model for model in found if model), None)


def without_head(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """A state dict without the training heads of all toolkits."""
    state = dict(tensors)
    for toolkit in _toolkits():
        state = toolkit.without_head(state)
    return state


def _toolkits(folder: Path | None = None) -> Iterator[Toolkit]:
    """All of them, or those that a folder may be of."""
    for module, file in TOOLKITS.values():
        if folder is None or (folder / file).is_file():
            yield cast(Toolkit, importlib.import_module(module))
