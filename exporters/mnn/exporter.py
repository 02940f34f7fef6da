"""MNN behind the one interface that all formats have."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.formats import DENSE, RUNTIME
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.plain import damaged
from sparsify.artifact.saving import canonical_state
from sparsify.artifact.weights import Weights
from sparsify.exporters.exporter import Exporter, exporter_of
from sparsify.exporters.mnn.conversion import MAKER, convert_onnx, rewrite
from sparsify.exporters.mnn.graph import Graph, fill_zeros, read_graph
from sparsify.exporters.mnn.matching import joined, match_weights
from sparsify.exporters.mnn.session import mnn, mnn_network, probe
from sparsify.exporters.mnn.sidecar import (
    Parameter,
    Sidecar,
    read_sidecar,
    sidecar_of,
    write_sidecar,
)
from sparsify.exporters.networks import Network
from sparsify.sparsity.counting import sparsity_table
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import SparsityTable

logger = logging.getLogger(__name__)


class MnnExporter(Exporter):
    """Graphs that MNN's converter made of ours, or of others; run by MNN."""

    engine = "mnn"

    def read(self, path: Path) -> Weights:
        """The weights of a graph, under the names of the network's if the sidecar tells them."""
        sidecar = read_sidecar(path)
        graph = read_graph(path)
        if sidecar is not None:
            return _own_weights(path, graph, sidecar)
        if graph.maker == MAKER:
            logger.warning(
                "'%s' is not beside '%s': the file is read like one that is not ours",
                sidecar_of(path).name,
                path,
            )
        return _foreign_weights(graph)

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
        weights = {name: state[name] for name in prunable if name not in absent}
        operators = match_weights(weights, graph.operators)
        parameters = [
            Parameter(**asdict(layer), operators=tuple(operators.get(layer.name, ())))
            for layer in sparsity_table(model, *artifact.selection).layers
            if layer.name not in absent
        ]
        metadata = artifact.exported_metadata(model, state)
        write_sidecar(output, metadata, _counted(parameters, _weights(parameters, graph)))

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
        with TemporaryDirectory() as folder:
            filled = Path(folder) / output.name
            fill_zeros(artifact.path, filled)
            rewrite(filled, output)
        sidecar = read_sidecar(artifact.path)
        if sidecar is not None:
            weights = _weights(sidecar.parameters, read_graph(output))
            write_sidecar(output, sidecar.metadata, _counted(sidecar.parameters, weights))


def _own_weights(path: Path, graph: Graph, sidecar: Sidecar) -> Weights:
    try:
        weights = _weights(sidecar.parameters, graph)
    except (LookupError, RuntimeError, ValueError) as error:
        raise damaged(sidecar_of(path), error) from error
    layers = (each.layer for each in _counted(sidecar.parameters, weights))
    return Weights(
        weights,
        sidecar.metadata,
        intact=True,
        graph=True,
        table=SparsityTable(tuple(layers)),
        obstacle=f"the network cannot be built from '{path}', which holds what the mnn"
        " converter made of it: give the run or an export in another format",
    )


def _weights(parameters: Sequence[Parameter], graph: Graph) -> dict[str, Tensor]:
    """The weights of the network that are in its graph, by name."""
    found = {}
    for parameter in parameters:
        if parameter.operators:
            operators = [graph.operators[number] for number in parameter.operators]
            found[parameter.name] = joined(operators, parameter.shape)
    return found


def _counted(parameters: Sequence[Parameter], weights: Mapping[str, Tensor]) -> list[Parameter]:
    """The parameters, those that are in the graph as many nonzeros as it has."""
    return [
        each.model_copy(update={"nonzero": int(weights[each.name].count_nonzero())})
        if each.name in weights
        else each
        for each in parameters
    ]


def _foreign_weights(graph: Graph) -> Weights:
    """All that can be read of a graph, under the names of its operators."""
    tensors, types = dict(graph.others), {}
    left_out = []
    for number, operator in enumerate(graph.operators):
        if operator.weight is None:
            left_out.append(f"'{operator.name}' is quantised or stored elsewhere")
            continue
        name = f"{operator.name}.weight"
        if name in tensors:
            name = f"{operator.name}.{number}.weight"
        tensors[name], types[name] = operator.weight, operator.type
    return Weights(tensors, {}, types, graph=True, left_out=tuple(left_out))
