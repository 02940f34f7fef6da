"""The words that recipes use where there is a choice; importing this module takes no pydantic."""

from __future__ import annotations

from importlib import resources
from typing import Literal

SYNTHETIC = "synthetic"
"""The built-in speakers, as a path of data."""
CorpusLayout = Literal[
    "auto",
    "folder",
    "voxceleb",
    "cnceleb",
    "librispeech",
    "kaldi",
    "manifest",
    "shards",
    "unlabelled",
]
LabelPlace = Literal["first", "last"]
"""Which field of the lines of a trial list is the label."""
SteeringRule = Literal["adaptive", "quantile", "smoothed", "fixed"]
"""How Bregman methods steer λ."""


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    folder = resources.files("sparsify.recipes")
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )
