"""The metadata that makes a file an artifact: which network it holds, and where that comes from.

They are strings: `format_version`, `framework` (`sparsify`), `architecture` and `front_end` (JSON),
`recipe` (YAML, when known), `sparsity` (prunable), `global_sparsity`, `layout`, `source_digest`,
the seal (see `sparsify.artifact.seals`) and, after a training, `embedding_mean` (JSON: mean
embedding of the training utterances, float32). Of a network that is not ours `parameter_kinds`
tells what its parameters are (JSON: type and prunability by name), so that reading the file takes
no foreign code. Of a model with rounded weights `precision` and `rounded_from` say how and of what;
where activations are rounded, too, `quantised` says which layers are not (JSON), and
`parameter_kinds` what is left of the network's parameters. Of a model that dead channels were taken
out of, `shrunk_from` says of which, and `architecture` has the `widths` that are left. A model that
no longer tells speakers apart says so under `collapsed`. A graph has each of the network's tensors
once: `tied` tells their further names (JSON), and `absent` which the network does not use (JSON).
Every format carries the same keys, in ONNX with the prefix `sparsify.`.

No path, time or machine is among them, so that the same training gives the same file everywhere.

This module reads them, and takes no torch; `sparsify.artifact.description` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sparsify.arrays import Array
from sparsify.documents import parse_json
from sparsify.errors import SparsifyError
from sparsify.models.registry import Architecture
from sparsify.recipe.sections import FrontEnd
from sparsify.recipe.validation import validate
from sparsify.sparsity.table import Kind
from sparsify.sparsity.zeros import table_of

N = TypeVar("N", dict[str, Any], list[Any])

FORMAT_VERSION = 1
MEAN = "embedding_mean"
PRECISION = "precision"
"""The type that the weights were rounded to, where that is not float32."""
ROUNDED_FROM = "rounded_from"
"""The source digest of the model that was rounded."""
QUANTISED = "quantised"
"""How the activations were rounded, too, and which layers were not (JSON)."""
SHRUNK_FROM = "shrunk_from"
"""The source digest of the model that dead channels were taken out of."""
KINDS = "parameter_kinds"
COLLAPSED = "collapsed"
"""Why a trained model cannot verify speakers."""
TIED = "tied"
"""Further names of tensors that a graph has under their first (JSON)."""
ABSENT = "absent"
"""Names of tensors that a network does not use and that its graph does not have (JSON)."""
INPUT = "input"
"""What a graph is given: `features`, or `waveform` where it computes these itself."""


def counts(kinds: Mapping[str, Kind], arrays: Mapping[str, Array]) -> dict[str, str]:
    """Metadata that tell how sparse parameters are, of which each kind is known."""
    table = table_of(kinds, arrays)
    return {"sparsity": repr(table.sparsity), "global_sparsity": repr(table.global_sparsity)}


def names_in(metadata: Mapping[str, str], key: str, path: Path, kind: type[N]) -> N:
    """The names under `TIED`, a dictionary, or `ABSENT`, a list; empty where there is none.

    Raises:
        SparsifyError: The metadata are damaged.
    """
    found = parse_json(metadata[key], f"{key} of '{path}'") if key in metadata else kind()
    if not isinstance(found, kind):
        raise SparsifyError(f"'{path}' has damaged metadata: {key} is no {kind.__name__}")
    return found


def is_ours(metadata: Mapping[str, str]) -> bool:
    """Whether sparsify wrote it."""
    return metadata.get("framework") == "sparsify"


def network_in(metadata: Mapping[str, str], path: Path) -> tuple[Architecture, FrontEnd]:
    """The network that a file of ours holds, and the features it expects.

    Raises:
        SparsifyError: The metadata are damaged or of a newer format version.
    """
    try:
        version = int(metadata["format_version"])
        architecture = Architecture(**parse_json(metadata["architecture"], "its architecture"))
        mappings = (architecture.options, architecture.widths)
        if not isinstance(architecture.name, str) or not all(isinstance(m, dict) for m in mappings):
            raise TypeError("architecture must have a name and options")
        front_end = parse_json(metadata["front_end"], "its front end")
    except (KeyError, TypeError, ValueError, SparsifyError) as error:
        raise SparsifyError(f"'{path}' has damaged metadata: {error!r}") from error
    if version > FORMAT_VERSION:
        raise SparsifyError(f"'{path}' has format version {version}: update sparsify to read it")
    return architecture, validate(FrontEnd, front_end, f"front end of '{path}'")


def kinds_in(metadata: Mapping[str, str], path: Path) -> dict[str, Kind] | None:
    """What a file says that the parameters of a network that is not ours are, by name.

    Raises:
        SparsifyError: The metadata are damaged.
    """
    text = metadata.get(KINDS)
    if text is None:
        return None
    listed = parse_json(text, f"{KINDS} of '{path}'")
    try:
        return {str(name): Kind(str(type_), bool(may)) for name, (type_, may) in listed.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise SparsifyError(f"'{path}' has damaged metadata: {error!r}") from error
