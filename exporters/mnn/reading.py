"""Reads `.mnn` files, whoever wrote them; importing this module takes no torch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sparsify.artifact.weights import Weights
from sparsify.errors import damaged
from sparsify.exporters.mnn.conversion import MAKER
from sparsify.exporters.mnn.graph import Graph, Weight, read_graph
from sparsify.exporters.mnn.matching import joined
from sparsify.exporters.mnn.sidecar import Parameter, Sidecar, read_sidecar, sidecar_of
from sparsify.sparsity.table import SparsityTable

logger = logging.getLogger(__name__)


def read_mnn(path: Path) -> Weights:
    """The weights of a graph, under the names of the network's if the sidecar tells them.

    Raises:
        SparsifyError: It or its sidecar is damaged, or would become absurdly large.
        OSError: It cannot be read.
    """
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


def _own_weights(path: Path, graph: Graph, sidecar: Sidecar) -> Weights:
    try:
        weights = weights_in(sidecar.parameters, graph)
    except (LookupError, ValueError) as error:
        raise damaged(sidecar_of(path), error) from error
    layers = (each.layer for each in counted(sidecar.parameters, weights))
    return Weights(
        weights,
        sidecar.metadata,
        intact=True,
        graph=True,
        table=SparsityTable(tuple(layers)),
        obstacle=f"the network cannot be built from '{path}', which holds what the mnn"
        " converter made of it: give the run or an export in another format",
    )


def weights_in(parameters: Sequence[Parameter], graph: Graph) -> dict[str, Weight]:
    """The weights of the network that are in its graph, by name."""
    found = {}
    for parameter in parameters:
        if parameter.operators:
            operators = [graph.operators[number] for number in parameter.operators]
            found[parameter.name] = joined(operators, parameter.shape)
    return found


def counted(parameters: Sequence[Parameter], weights: Mapping[str, Weight]) -> list[Parameter]:
    """The parameters, those that are in the graph as many nonzeros as it has."""
    return [
        each.model_copy(update={"nonzero": int(np.count_nonzero(weights[each.name]))})
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
