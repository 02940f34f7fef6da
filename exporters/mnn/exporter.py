"""MNN behind the one interface that all formats have."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.description import exported_metadata
from sparsify.artifact.formats import DENSE, RUNTIME
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import canonical_state
from sparsify.exporters.exporter import Exporter, exporter_of
from sparsify.exporters.mnn.conversion import convert_onnx, rewrite
from sparsify.exporters.mnn.graph import Weight, fill_zeros, read_graph
from sparsify.exporters.mnn.matching import match_weights
from sparsify.exporters.mnn.reading import counted, weights_in
from sparsify.exporters.mnn.session import mnn, mnn_network, probe
from sparsify.exporters.mnn.sidecar import Parameter, read_sidecar, write_sidecar
from sparsify.exporters.networks import Network
from sparsify.exporters.twin import without_zeros
from sparsify.sparsity.counting import sparsity_table
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.tensors import array_of, tensor_of


class MnnExporter(Exporter):
    """Graphs that MNN's converter made of ours, or of others; run by MNN."""

    engine = "mnn"

    def write(self, artifact: Artifact, output: Path, layout: str) -> None:
        """The graph of the ONNX export, converted by MNN, and its sidecar."""
        mnn()
        model = artifact.build()
        state = canonical_state(model)
        with TemporaryDirectory() as folder:
            onnx = Path(folder) / f"model{RUNTIME.suffixes[0]}"
            exporter_of(RUNTIME).write(artifact, onnx, DENSE)
            absent = load_artifact(onnx).absent
            convert_onnx(onnx, output)
        probe(output, artifact.front_end.num_mel_bins)
        graph = read_graph(output)
        prunable = prunable_parameters(model, include=artifact.selection.include)
        weights = {name: array_of(state[name]) for name in prunable if name not in absent}
        operators = match_weights(weights, graph.operators)
        parameters = [
            Parameter(**asdict(layer), operators=tuple(operators.get(layer.name, ())))
            for layer in sparsity_table(model, *artifact.selection).layers
            if layer.name not in absent
        ]
        metadata = exported_metadata(artifact, model, state)
        write_sidecar(output, metadata, counted(parameters, weights_in(parameters, graph)))

    def version(self) -> str:
        """That of MNN."""
        return str(mnn().version())

    def network(self, artifact: Artifact, threads: int | None = None) -> Network:
        """The file in MNN; it need not be ours."""
        return mnn_network(
            artifact.path,
            artifact.front_end.num_mel_bins,
            threads,
            trusted=artifact.table is not None,
        )

    def twin(self, artifact: Artifact, output: Path) -> None:
        """The same graph, none of its weights compressed; it need not be ours."""
        mnn()
        generator = torch.Generator().manual_seed(0)

        def filled(weight: Weight) -> Weight:
            return array_of(without_zeros(tensor_of(weight), generator))

        with TemporaryDirectory() as folder:
            dense = Path(folder) / output.name
            fill_zeros(artifact.path, dense, filled)
            rewrite(dense, output)
        sidecar = read_sidecar(artifact.path)
        if sidecar is not None:
            weights = weights_in(sidecar.parameters, read_graph(output))
            write_sidecar(output, sidecar.metadata, counted(sidecar.parameters, weights))
