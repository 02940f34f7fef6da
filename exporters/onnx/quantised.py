"""int8 graphs of ours on disk: what their metadata say, and how they are read.

Importing this module takes no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import numpy_helper

from sparsify.artifact.formats import EIGHT_BITS
from sparsify.artifact.provenance import (
    KINDS,
    PRECISION,
    QUANTISED,
    ROUNDED_FROM,
    counts,
    kinds_in,
)
from sparsify.artifact.seals import source_digest
from sparsify.artifact.weights import Weights
from sparsify.errors import damaged
from sparsify.sparsity.table import Kind
from sparsify.sparsity.zeros import table_of

if TYPE_CHECKING:
    from sparsify.exporters.onnx.quantising import Quantised


def quantised_metadata(
    model: onnx.ModelProto, kinds: Mapping[str, Kind], source: str, found: Quantised
) -> dict[str, str]:
    """What the metadata say of an int8 graph, and otherwise of the network it was made from.

    Its digest is of all that it holds, ranges too: calibrations of the network are not for it.

    Args:
        model: The int8 graph.
        kinds: What the parameters of the network are, by name.
        source: Digest of the network.
        found: How it was quantised.
    """
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    left = {name: kind for name, kind in kinds.items() if name in arrays}
    nonzero = {layer.name: layer.nonzero for layer in table_of(left, arrays).prunable}
    return {
        PRECISION: EIGHT_BITS,
        ROUNDED_FROM: source,
        QUANTISED: json.dumps(asdict(found)),
        KINDS: json.dumps(left),
        **counts(left, arrays),
        "nonzero": json.dumps(nonzero),
        "source_digest": source_digest(arrays),
    }


def quantised_weights(weights: Weights, path: Path) -> Weights:
    """The same file, if it holds an int8 graph of ours, as one from which no network is built.

    Raises:
        SparsifyError: The metadata are damaged.
    """
    kinds = kinds_in(weights.metadata, path)
    if not weights.intact or QUANTISED not in weights.metadata or kinds is None:
        return weights
    try:
        table = table_of(kinds, weights.arrays)
    except LookupError as error:
        raise damaged(path, error) from error
    obstacle = (
        f"the network cannot be built from '{path}', whose layers are int8: give the run or an"
        " export in float32"
    )
    return replace(weights, table=table, obstacle=obstacle)
