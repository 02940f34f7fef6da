"""Batch norms that follow a convolution become a part of it, as quantised convolutions need."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def fold_norms(model: onnx.ModelProto) -> None:
    """Folds them in place; the graph computes the same.

    Weights keep their names and zeros; the bias of a convolution is then called as that of its
    norm. A norm behind something else, such as that of ECAPA-TDNN behind a ReLU, stays, and so does
    one whose parameters, or whose convolution, something else uses, too.
    """
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        convolution = makers.get(norm.input[0])
        if convolution is None or convolution.op_type != "Conv":
            continue
        changed = (norm.input[0], convolution.input[1], norm.input[2])
        constant = tensors.keys() >= {*convolution.input[1:], *norm.input[1:]}
        if not constant or any(uses[name] > 1 for name in changed):
            continue
        _fold(tensors, convolution, norm)
        graph.node.remove(norm)
    used = {name for node in graph.node for name in node.input}
    for name in tensors.keys() - used:
        graph.initializer.remove(tensors[name])


def _fold(
    tensors: dict[str, onnx.TensorProto], convolution: onnx.NodeProto, norm: onnx.NodeProto
) -> None:
    gain, shift, mean, variance = (_values(tensors[name]) for name in norm.input[1:5])
    epsilon = next(each.f for each in norm.attribute if each.name == "epsilon")
    scale = gain / np.sqrt(variance + epsilon)
    weight = _values(tensors[convolution.input[1]])
    bias = _values(tensors[convolution.input[2]]) if len(convolution.input) > 2 else 0
    _set(tensors[convolution.input[1]], weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    _set(tensors[norm.input[2]], (bias - mean) * scale + shift)
    del convolution.input[2:]
    convolution.input.append(norm.input[2])
    convolution.output[0] = norm.output[0]


def _values(tensor: onnx.TensorProto) -> NDArray[np.float64]:
    return numpy_helper.to_array(tensor).astype(np.float64)


def _set(tensor: onnx.TensorProto, values: NDArray[np.float64]) -> None:
    # No zero of the weight may come back as -0.0.
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32) + 0, tensor.name))
