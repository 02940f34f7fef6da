"""What quantised layers need: no norms, and no constants that a norm would multiply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def fold_norms(model: onnx.ModelProto) -> None:
    """Makes batch norms that follow a convolution a part of it; the graph computes the same.

    Weights keep their names and zeros; the bias of a convolution is then called as that of its
    norm. A norm behind something else, such as that of ECAPA-TDNN behind a ReLU, stays, and so does
    one whose parameters, or whose convolution, something else uses, too.
    """
    graph = _Graph(model.graph)
    for norm in graph.norms():
        convolution = graph.before(norm, "Conv")
        if convolution and graph.owns([convolution.input[1], norm.input[2]], norm, convolution):
            _fold(graph.tensors, convolution, norm)
            model.graph.node.remove(norm)
    used = {name for node in model.graph.node for name in node.input}
    for name in graph.tensors.keys() - used:
        model.graph.initializer.remove(graph.tensors[name])


def fold_dead_channels(model: onnx.ModelProto) -> None:
    """Moves what channels without weights put out behind their norm; the graph computes the same.

    Such a channel puts out its bias, in convolution → ReLU → norm. As the norm has seen nothing
    else, its variance is next to 0, and it multiplies what rounding adds to the bias by up to
    1/√ε. Here the channel becomes 0, which is not rounded, and the norm adds what came out of it.
    """
    graph = _Graph(model.graph)
    for norm in graph.norms():
        relu = graph.before(norm, "Relu")
        convolution = graph.before(relu, "Conv") if relu else None
        if not convolution or len(convolution.input) < 3:
            continue
        if graph.owns([*convolution.input[2:], *norm.input[1:3]], norm, convolution):
            _settle(graph.tensors, convolution, norm)


class _Graph:
    """Who makes and uses what in a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._nodes = graph.node
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._uses.update(output.name for output in graph.output)

    def norms(self) -> Iterator[onnx.NodeProto]:
        """All batch norms, of which the caller may remove those that it has seen."""
        yield from [node for node in self._nodes if node.op_type == "BatchNormalization"]

    def before(self, node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        """What makes the first input of a node, if it is of a kind and serves nobody else."""
        maker = self._makers.get(node.input[0])
        alone = self._uses[node.input[0]] == 1
        return maker if maker is not None and maker.op_type == kind and alone else None

    def owns(self, parameters: Sequence[str], *nodes: onnx.NodeProto) -> bool:
        """Whether parameters serve nobody else, and all those of some nodes are in the file."""
        of_nodes = {name for node in nodes for name in node.input[1:]}
        alone = all(self._uses[name] == 1 for name in parameters)
        return alone and self.tensors.keys() >= of_nodes


def _fold(
    tensors: dict[str, onnx.TensorProto], convolution: onnx.NodeProto, norm: onnx.NodeProto
) -> None:
    scale, offset = _line(tensors, norm)
    weight = _values(tensors[convolution.input[1]])
    bias = _values(tensors[convolution.input[2]]) if len(convolution.input) > 2 else 0
    _set(tensors[convolution.input[1]], weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    _set(tensors[norm.input[2]], bias * scale + offset)
    del convolution.input[2:]
    convolution.input.append(norm.input[2])
    convolution.output[0] = norm.output[0]


def _settle(
    tensors: dict[str, onnx.TensorProto], convolution: onnx.NodeProto, norm: onnx.NodeProto
) -> None:
    weight, bias, gain, shift = (
        _values(tensors[name]) for name in (*convolution.input[1:3], *norm.input[1:3])
    )
    scale, offset = _line(tensors, norm)
    dead = ~weight.reshape(len(weight), -1).any(axis=1)
    _set(tensors[norm.input[2]], np.where(dead, np.maximum(bias, 0) * scale + offset, shift))
    _set(tensors[norm.input[1]], np.where(dead, 0, gain))
    _set(tensors[convolution.input[2]], np.where(dead, 0, bias))


def _line(
    tensors: dict[str, onnx.TensorProto], norm: onnx.NodeProto
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a norm multiplies by, and what it adds then."""
    gain, shift, mean, variance = (_values(tensors[name]) for name in norm.input[1:5])
    epsilon = next(each.f for each in norm.attribute if each.name == "epsilon")
    scale = gain / np.sqrt(variance + epsilon)
    return scale, shift - mean * scale


def _values(tensor: onnx.TensorProto) -> NDArray[np.float64]:
    return numpy_helper.to_array(tensor).astype(np.float64)


def _set(tensor: onnx.TensorProto, values: NDArray[np.float64]) -> None:
    # No zero of the weight may come back as -0.0.
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32) + 0, tensor.name))
