"""ONNX behind the one interface that all formats have."""

from __future__ import annotations

from pathlib import Path

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.plain import damaged
from sparsify.artifact.seals import is_intact
from sparsify.artifact.weights import Weights
from sparsify.exporters.exporter import Exporter
from sparsify.exporters.networks import Network
from sparsify.exporters.onnx.sealing import graph_entries, others_metadata, own_metadata
from sparsify.exporters.onnx.session import onnx_network
from sparsify.exporters.onnx.tensors import GRAPH_ERRORS, read_graph
from sparsify.exporters.onnx.writing import export_onnx, replace_weights
from sparsify.exporters.twin import dense_weights


class OnnxExporter(Exporter):
    """Graphs of ours and of others, run by onnxruntime."""

    engine = "onnxruntime"

    def read(self, path: Path) -> Weights:
        """The constants of a graph."""
        graph = read_graph(path)
        own = own_metadata(graph.model)
        try:
            intact = is_intact(own, graph_entries(own, graph.model), path)
        except GRAPH_ERRORS as error:
            raise damaged(path, error) from error
        metadata = {**others_metadata(graph.model), **own}
        return Weights(graph.tensors, metadata, graph.operators, intact, graph=True)

    def write(self, artifact: Artifact, output: Path, layout: str) -> None:
        """A graph with its zeros."""
        export_onnx(artifact, output)

    def network(self, artifact: Artifact, threads: int | None = None) -> Network:
        """The file in onnxruntime; it need not be ours."""
        return onnx_network(artifact.path, artifact.front_end.num_mel_bins, threads)

    def twin(self, artifact: Artifact, output: Path) -> None:
        """The same graph with other weights; it need not be ours."""
        replace_weights(artifact.path, output, dense_weights(artifact))
