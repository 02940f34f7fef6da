"""The multiply-adds of a graph, whoever wrote it; importing this module takes no torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.errors import SparsifyError, first_line
from sparsify.exporters.onnx.shapes import inferred_shapes
from sparsify.exporters.onnx.tensors import GRAPH_ERRORS, Graph, read_graph
from sparsify.sparsity.work import NO_WORK, Work, total_work

# Where the factors stand among the inputs.
_PRODUCTS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), (0, 1)),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3)),
}
# What hands a weight on, or a part of it; none of these makes anything larger.
_PASSING: tuple[str, ...] = (
    "Identity",
    "Cast",
    "Transpose",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
)
_PASSING += ("Slice", "Split", "Gather", "Constant")


def work_in(artifact: Artifact, frames: int) -> dict[str, Work]:
    """The multiply-adds of one utterance, by the initializer that multiplies.

    As `sparsify.sparsity.uses.uses_of` counts them; products of two activations do not count.

    Args:
        artifact: An ONNX file with one input `(B, T, bins)`, whose network is not known.
        frames: T.

    Raises:
        SparsifyError: The shapes cannot be inferred, or a weight is used by what is not counted.
    """
    path, bins = artifact.path, artifact.front_end.num_mel_bins
    counted = {layer.name: layer.prunable for layer in weights_table(artifact).layers}
    graph = read_graph(path)
    try:
        return _Counting(graph, counted, inferred_shapes(graph.model, frames, bins)).work()
    except GRAPH_ERRORS as error:
        raise SparsifyError(
            f"the shapes in '{path}' cannot be inferred: {first_line(error)}"
        ) from error


class _Counting:
    """Goes through the nodes of one graph."""

    def __init__(
        self, graph: Graph, counted: Mapping[str, bool], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._nodes = graph.model.graph.node
        self._makers = {name: node for node in self._nodes for name in node.output if name}
        self._constants = dict(graph.arrays)
        self._sources = {name: name for name in self._constants}
        self._counted = counted
        self._shapes = shapes
        self._opsets = {each.domain: each.version for each in graph.model.opset_import}
        self._work: dict[str, Work] = {}

    def work(self) -> dict[str, Work]:
        """The work by initializer; every prunable one must have some."""
        for node in self._nodes:
            if node.op_type in _PRODUCTS and node.domain in ("", "ai.onnx"):
                self._product(node)
            elif node.op_type == "DequantizeLinear" and node.input[0] in self._constants:
                self._sources[node.output[0]] = self._sources[node.input[0]]
                self._constants[node.output[0]] = self._constants[node.input[0]]
            elif node.op_type in _PASSING:
                self._hand_on(node)
        for name in (name for name, prunable in self._counted.items() if prunable):
            if name not in self._work:
                users = {node.op_type for node in self._nodes if name in node.input}
                used = (
                    f"used by {' and '.join(sorted(users))}, which is"
                    if users
                    else "used where it is"
                )
                raise SparsifyError(f"'{name}' is {used} not counted")
        return self._work

    def _hand_on(self, node: onnx.NodeProto) -> None:
        if node.output[0] in self._constants or not all(
            name in self._constants for name in node.input if name
        ):
            return
        inputs = {name: self._constants[name] for name in node.input if name}
        if node.op_type == "Gather" and inputs[node.input[1]].size > 1:
            return  # may be larger than what it gathers from
        results = ReferenceEvaluator(node, opsets=self._opsets).run(None, inputs)
        for name, result in zip(node.output, results, strict=True):
            self._constants[name] = result
            self._sources[name] = self._sources[node.input[0]] if node.input else name

    def _product(self, node: onnx.NodeProto) -> None:
        first, second = (node.input[place] for place in _PRODUCTS[node.op_type])
        output = self._shapes[node.output[0]]
        if "Conv" in node.op_type:
            image = self._shapes[first] if node.op_type == "ConvTranspose" else output
            count = prod(self._shapes[second]) * image[0] * prod(image[2:])
            self._add(node, second, count)
            return
        transposed = any(each.name == "transA" and each.i for each in node.attribute)
        count = prod(output) * self._shapes[first][0 if transposed else -1]
        for name in (first, second):
            self._add(node, name, count)

    def _add(self, node: onnx.NodeProto, name: str, count: int) -> None:
        source = self._sources.get(name)
        if source is None:
            if self._is_computed_from_constants(name):
                raise SparsifyError(
                    f"a {node.op_type} multiplies by '{name}', which {self._makers[name].op_type}"
                    " makes of weights: that is not counted"
                )
            return
        if source not in self._counted:
            raise SparsifyError(
                f"a {node.op_type} multiplies by '{source}', which is not counted itself"
            )
        used: NDArray[Any] = self._constants[name]
        by_zeros = count * (used.size - int(np.count_nonzero(used))) // used.size
        self._work[source] = total_work([self._work.get(source, NO_WORK), Work(count, by_zeros)])

    def _is_computed_from_constants(self, name: str) -> bool:
        """Whether no input of the graph takes part in a value."""
        waiting, seen = [name], set()
        while waiting:
            each = waiting.pop()
            if each in seen or not each or each in self._constants:
                continue
            seen.add(each)
            if each not in self._makers:
                return False
            waiting.extend(self._makers[each].input)
        return True
