"""Others' checkpoints in our terms: what the readers of all toolkits have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sparsify.arrays import Array
from sparsify.documents import MOST_YAML_BYTES, BoundedLoader, parse_yaml, read_text
from sparsify.errors import SparsifyError
from sparsify.models.registry import Architecture
from sparsify.recipe.sections import FrontEnd
from sparsify.recipe.validation import shown

TAG = "!"
"""Key under which `read_yaml` leaves the tag of a mapping."""


class UnsupportedModelError(SparsifyError):
    """A known toolkit's model that no network or front end here can represent."""


@dataclass(frozen=True)
class ForeignModel:
    """A checkpoint in our terms.

    Attributes:
        architecture: How `build_model` builds the network.
        front_end: The features it expects.
        state: The embedding network's tensors under our names, without the training head.
    """

    architecture: Architecture
    front_end: FrontEnd
    state: dict[str, Array]


def refuse_other_settings(file: Path, settings: Mapping[str, tuple[Any, Any]]) -> None:
    """Checks settings that only one value will do for.

    Args:
        file: Where they are from.
        settings: What was found and what is computed here, by key.

    Raises:
        UnsupportedModelError: A setting is another.
    """
    for key, (found, computed) in settings.items():
        if found != computed:
            raise UnsupportedModelError(
                f"'{file}' asks for {key} {shown(found)}, which is not computed here: only"
                f" {computed!r} is"
            )


class _TagReader(BoundedLoader):
    """Reads YAML with tags such as SpeechBrain's `!new:`, without making anything of them."""


def _tagged(loader: _TagReader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {TAG: tag, **loader.construct_mapping(node, deep=True)}
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node) if tag == "!ref" else {TAG: tag}


_TagReader.add_multi_constructor("", _tagged)  # for all tags that YAML does not know


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping; empty where the file is missing or holds something else.

    Raises:
        SparsifyError: It is not valid YAML.
        OSError: It cannot be read.
    """
    if not file.is_file():
        return {}
    content = parse_yaml(read_text(file, MOST_YAML_BYTES), f"'{file}'", _TagReader)
    return content if isinstance(content, dict) else {}
