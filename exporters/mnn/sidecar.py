"""What a `.mnn` file cannot say of itself, in a `.mnn.json` beside it.

It holds the metadata of every artifact (`sparsify.artifact.provenance`), the parameters of the
network with the operators that hold each of its weights, and two SHA-256 digests: of the `.mnn`
file, and of all the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from sparsify.artifact.provenance import is_ours
from sparsify.documents import parse_json, read_text
from sparsify.errors import SparsifyError
from sparsify.files import content_digest
from sparsify.recipe.validation import Section, validate
from sparsify.sparsity.table import LayerSparsity

_MOST_BYTES = 1 << 24
_DIGEST = "digest"
_Count = Annotated[int, Field(ge=0)]


class Parameter(Section):
    """A parameter of the network, and what has become of it.

    Attributes:
        name: Of the parameter.
        type: Class of the layer that owns it.
        shape: Its shape.
        nonzero: How many of its elements are not exactly zero, in the file if operators hold it.
        prunable: Whether it may be made sparse.
        operators: The operators that hold a weight, by number; none for what MNN folds and merges.
    """

    model_config = ConfigDict(extra="ignore")

    name: str
    type: str
    shape: tuple[_Count, ...]
    nonzero: _Count
    prunable: bool
    operators: tuple[_Count, ...] = ()

    @property
    def layer(self) -> LayerSparsity:
        """As a row of a table."""
        return LayerSparsity(
            name=self.name,
            type=self.type,
            shape=self.shape,
            parameters=math.prod(self.shape),
            nonzero=self.nonzero,
            prunable=self.prunable,
        )


class Sidecar(Section):
    """What belongs to a `.mnn` file.

    Attributes:
        metadata: As in all artifacts.
        parameters: Those of the network, in its order.
        file_digest: SHA-256 of the `.mnn` file.
    """

    model_config = ConfigDict(extra="ignore")  # a newer version may know more

    metadata: dict[str, str]
    parameters: tuple[Parameter, ...]
    file_digest: str


def sidecar_of(path: Path) -> Path:
    """Where the sidecar of a `.mnn` file is."""
    return path.with_name(f"{path.name}.json")


def write_sidecar(path: Path, metadata: Mapping[str, str], parameters: Sequence[Parameter]) -> None:
    """Writes the sidecar of a `.mnn` file that is there.

    Raises:
        OSError: It cannot be written.
    """
    sidecar = Sidecar(
        metadata=dict(metadata), parameters=tuple(parameters), file_digest=content_digest(path)
    )
    content = sidecar.model_dump(mode="json")
    content[_DIGEST] = _digest(content)
    sidecar_of(path).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar of a `.mnn` file, if there is one.

    Raises:
        SparsifyError: It is damaged, or of another file.
        OSError: It cannot be read.
    """
    place = sidecar_of(path)
    try:
        text = read_text(place, _MOST_BYTES)
    except FileNotFoundError:
        return None
    content = parse_json(text, f"'{place}'")
    if not isinstance(content, dict) or content.pop(_DIGEST, None) != _digest(content):
        raise SparsifyError(
            f"'{place}' is damaged or not what sparsify wrote beside '{path.name}': restore it,"
            " export the model again, or move it away to read the file as one that is not ours"
        )
    sidecar = validate(Sidecar, content, f"'{place}'")
    if not is_ours(sidecar.metadata):
        raise SparsifyError(
            f"'{place}' does not say that sparsify wrote it: export the model again"
        )
    if sidecar.file_digest != content_digest(path):
        raise SparsifyError(
            f"'{path}' is damaged or not the file that '{place.name}' belongs to: restore both,"
            " export the model again, or move that away to read the file as one that is not ours"
        )
    return sidecar


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
