"""int8 graphs of ours on disk: what their metadata say, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

from sparsify.artifact.formats import EIGHT_BITS
from sparsify.artifact.plain import damaged
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
from sparsify.exporters.onnx.quantising import Quantised
from sparsify.sparsity.counting import Kind, table_of


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
    tensors = {
        each.name: torch.from_numpy(numpy_helper.to_array(each).copy())
        for each in model.graph.initializer
    }
    left = {name: kind for name, kind in kinds.items() if name in tensors}
    nonzero = {layer.name: layer.nonzero for layer in table_of(left, tensors).prunable}
    return {
        PRECISION: EIGHT_BITS,
        ROUNDED_FROM: source,
        QUANTISED: json.dumps(asdict(found)),
        KINDS: json.dumps(left),
        **counts(left, tensors),
        "nonzero": json.dumps(nonzero),
        "source_digest": source_digest(tensors),
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
        table = table_of(kinds, weights.tensors)
    except LookupError as error:
        raise damaged(path, error) from error
    obstacle = (
        f"the network cannot be built from '{path}', whose layers are int8: give the run or an"
        " export in float32"
    )
    return replace(weights, table=table, obstacle=obstacle)
