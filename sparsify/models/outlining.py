"""Finds out what registered networks look like, see `sparsify.models.outlines`.

`python -m sparsify.models.outlining sparsify/models/outlines.jsonl` writes what ships.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsify.arrays import Array
from sparsify.audio.frames import frame_count
from sparsify.models.multiply_adds import weight_uses
from sparsify.models.outlines import Question, found, outline_question, uses_question
from sparsify.models.registry import Architecture
from sparsify.recipe.recipe import load_recipe
from sparsify.recipe.words import recipe_names
from sparsify.sparsity.counting import parameter_kinds
from sparsify.sparsity.work import SPEECH_SECONDS


def outlined(
    architecture: Architecture, ignore: Sequence[str], include: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The shapes and types in the state dict of a network, and the kinds of its parameters.

    Raises:
        SparsifyError: There is no such network, or a pattern fits none of its parameters.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # what is kept is for other processes, too
    try:
        network = architecture.outline()
    finally:
        torch.set_default_dtype(default)
    state = {
        name: (list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in network.state_dict().items()
    }
    return state, {**parameter_kinds(network, ignore, include)}


def uses(architecture: Architecture, frames: int, bins: int) -> dict[str, Any]:
    """How often the weights of a network multiply.

    Returns:
        By the name of a weight, a shape that broadcasts to its, and the counts that fill it: values
        and how often each comes in a row.

    Raises:
        SparsifyError: There is no such network, or it does something that is not counted.
        RuntimeError: It does not take such features; also `ValueError` and `LookupError`.
    """
    counts = weight_uses(architecture, architecture.build, frames, bins)
    return {name: _in_runs(_compact(each.numpy())) for name, each in counts.items()}


def _compact(array: Array) -> Array:
    """An array with one element along every axis along which all are the same."""
    for axis in range(array.ndim):
        first = array.take([0], axis) if array.shape[axis] else array
        array = first if (array == first).all() else array
    return array


def _in_runs(array: Array) -> tuple[list[int], list[int], list[int]]:
    flat = array.reshape(-1)
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] - 1))
    lengths = np.diff(starts, append=flat.size)
    return list(array.shape), flat[starts].tolist(), lengths.tolist()


def questions() -> Iterator[Question]:
    """What `sparsify inspect` asks of the networks of all recipes."""
    asked = []
    for name in recipe_names():
        recipe = load_recipe(name)
        architecture = Architecture(recipe.model.name, recipe.model.options)
        frames = frame_count(recipe.front_end, SPEECH_SECONDS)
        asked.append(outline_question(architecture, recipe.model.selection))
        asked.append(uses_question(architecture, frames, recipe.front_end.num_mel_bins))
    for number, question in enumerate(asked):
        if question not in asked[:number]:
            yield question


def content() -> str:
    """The file that ships."""
    lines = []
    for question in questions():
        lines += [
            json.dumps(question, sort_keys=True),
            json.dumps(found(question), separators=(",", ":")),
        ]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(content(), "utf-8")
