"""ONNX behind the one interface that all formats have."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from sparsify.artifact.artifact import Artifact
from sparsify.exporters.exporter import Exporter
from sparsify.exporters.networks import Network
from sparsify.exporters.onnx.dequantising import write_float_twin
from sparsify.exporters.onnx.reference import reference_network
from sparsify.exporters.onnx.session import onnx_network
from sparsify.exporters.onnx.writing import export_onnx, replace_weights
from sparsify.exporters.quantise import Quantisation
from sparsify.exporters.twin import dense_weights


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

    def twin(self, artifact: Artifact, output: Path) -> None:
        """The same graph with other weights, in float32 if it is ours; it need not be."""
        if artifact.quantised:
            write_float_twin(artifact.path, output, dense_weights(artifact))
        elif artifact.graph:
            ours = artifact.architecture is not None
            replace_weights(artifact.path, output, dense_weights(artifact), ours=ours)
        else:
            super().twin(artifact, output)
