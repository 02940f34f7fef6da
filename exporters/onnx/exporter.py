"""ONNX behind the one interface that all formats have."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.formats import FEATURES, SAMPLES
from sparsify.artifact.plain import damaged
from sparsify.artifact.provenance import INPUT
from sparsify.artifact.seals import is_intact
from sparsify.artifact.weights import Weights
from sparsify.exporters.exporter import Exporter
from sparsify.exporters.networks import Network
from sparsify.exporters.onnx.dequantising import write_float_twin
from sparsify.exporters.onnx.front_end import takes_samples
from sparsify.exporters.onnx.quantised import quantised_weights
from sparsify.exporters.onnx.reference import reference_network
from sparsify.exporters.onnx.sealing import graph_entries, others_metadata, own_metadata
from sparsify.exporters.onnx.session import onnx_network
from sparsify.exporters.onnx.tensors import GRAPH_ERRORS, read_graph
from sparsify.exporters.onnx.work import graph_work
from sparsify.exporters.onnx.writing import export_onnx, replace_weights
from sparsify.exporters.quantise import Quantisation
from sparsify.exporters.twin import dense_weights
from sparsify.sparsity.work import Work


class OnnxExporter(Exporter):
    """Graphs of ours and of others, run by onnxruntime.

    Args:
        quantisation: How layers become int8; they are float32 if not given.
        with_front_end: Whether those that are written compute their features.
    """

    engine = "onnxruntime"

    def __init__(
        self, quantisation: Quantisation | None = None, *, with_front_end: bool = False
    ) -> None:
        self._quantisation = quantisation
        self._with_front_end = with_front_end

    def read(self, path: Path) -> Weights:
        """The constants of a graph."""
        graph = read_graph(path)
        own = own_metadata(graph.model)
        try:
            intact = is_intact(own, graph_entries(own, graph.model), path)
        except GRAPH_ERRORS as error:
            raise damaged(path, error) from error
        metadata = {**others_metadata(graph.model), **own}
        metadata[INPUT] = SAMPLES if takes_samples(graph.model) else FEATURES  # whoever wrote it
        tensors = {
            name: tensor
            for name, tensor in graph.tensors.items()
            if name not in graph.integers.helpers
        }
        weights = Weights(
            tensors, metadata, graph.operators, intact, graph=True, left_out=graph.left_out
        )
        return quantised_weights(weights, path)

    def write(self, artifact: Artifact, output: Path, layout: str) -> None:
        """A graph with its zeros."""
        export_onnx(artifact, output, self._quantisation, with_front_end=self._with_front_end)

    def network(self, artifact: Artifact, threads: int | None = None) -> Network:
        """The file in onnxruntime; it need not be ours."""
        return onnx_network(artifact.path, artifact.front_end.num_mel_bins, threads)

    def reference(self, artifact: Artifact, written: Artifact) -> Network:
        """Of an int8 graph, the graph as onnx's reference computes it, step by step."""
        if not written.quantised:
            return super().reference(artifact, written)
        return reference_network(written.path)

    def version(self) -> str:
        """That of onnxruntime."""
        return onnxruntime.__version__

    def work(self, artifact: Artifact, frames: int) -> dict[str, Work]:
        """That of our network, or of a graph whose network is not known."""
        if artifact.architecture is not None:
            return super().work(artifact, frames)
        counted = {layer.name: layer.prunable for layer in weights_table(artifact).layers}
        return graph_work(artifact.path, counted, frames, artifact.front_end.num_mel_bins)

    def twin(self, artifact: Artifact, output: Path) -> None:
        """The same graph with other weights, in float32 if it is ours; it need not be."""
        if artifact.quantised:
            write_float_twin(artifact.path, output, dense_weights(artifact))
        elif artifact.graph:
            ours = artifact.architecture is not None
            replace_weights(artifact.path, output, dense_weights(artifact), ours=ours)
        else:
            super().twin(artifact, output)
