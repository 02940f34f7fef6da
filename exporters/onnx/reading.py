"""Reads `.onnx` files, whoever wrote them; importing this module takes no torch."""

from __future__ import annotations

from pathlib import Path

from sparsify.artifact.formats import FEATURES, SAMPLES
from sparsify.artifact.provenance import INPUT
from sparsify.artifact.seals import is_intact
from sparsify.artifact.weights import Weights
from sparsify.errors import damaged
from sparsify.exporters.onnx.quantised import quantised_weights
from sparsify.exporters.onnx.sealing import graph_entries, others_metadata, own_metadata
from sparsify.exporters.onnx.tensors import GRAPH_ERRORS, read_graph, takes_samples


def read_onnx(path: Path) -> Weights:
    """The constants of a graph.

    Raises:
        SparsifyError: It is damaged, names a file elsewhere, or would become absurdly large.
        OSError: It cannot be read.
    """
    graph = read_graph(path)
    own = own_metadata(graph.model)
    try:
        intact = is_intact(own, graph_entries(own, graph.model), path)
    except GRAPH_ERRORS as error:
        raise damaged(path, error) from error
    metadata = {**others_metadata(graph.model), **own}
    metadata[INPUT] = SAMPLES if takes_samples(graph.model) else FEATURES  # whoever wrote it
    arrays = {
        name: array for name, array in graph.arrays.items() if name not in graph.integers.helpers
    }
    weights = Weights(
        arrays,
        metadata,
        graph.operators,
        intact,
        graph=True,
        left_out=graph.left_out,
        beside=graph.beside,
    )
    return quantised_weights(weights, path)
