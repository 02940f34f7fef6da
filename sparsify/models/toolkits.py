"""The toolkits whose checkpoints are read: a list, and one way to ask all that is on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import Tensor

from sparsify.models import speechbrain, wespeaker
from sparsify.models.foreign import ForeignModel


class Toolkit(Protocol):
    """What the module of a toolkit has."""

    NAME: str
    """How its makers write it."""

    def model_file(self, folder: Path) -> Path | None:
        """The model file of one of its folders, `None` if the folder is none."""

    def interpret(self, file: Path, tensors: Mapping[str, Tensor]) -> ForeignModel | None:
        """What a state dict holds in our terms, `None` if it is not of this toolkit."""

    def without_head(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict without what only the training needed."""


TOOLKITS: tuple[Toolkit, ...] = (speechbrain, wespeaker)


def names() -> str:
    """All of them, such as "SpeechBrain or WeSpeaker"."""
    return " or ".join(toolkit.NAME for toolkit in TOOLKITS)


def model_file(folder: Path) -> Path | None:
    """The model file of a folder as some toolkit makes it, `None` if it is none of them.

    Raises:
        SparsifyError: It looks like a toolkit's, but has no such file.
    """
    found = (toolkit.model_file(folder) for toolkit in TOOLKITS)
    return next((file for file in found if file), None)


def interpret(file: Path, tensors: Mapping[str, Tensor]) -> ForeignModel | None:
    """What a state dict of some toolkit holds, `None` if it is of none of them.

    Raises:
        UnsupportedModelError: It cannot be represented here; says why.
        SparsifyError: What lies beside it cannot be read.
    """
    found = (toolkit.interpret(file, tensors) for toolkit in TOOLKITS)
    return next((model for model in found if model), None)


def without_head(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the training heads of all toolkits."""
    state = dict(tensors)
    for toolkit in TOOLKITS:
        state = toolkit.without_head(state)
    return state
