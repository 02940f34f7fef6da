"""The shapes of all values in a graph for an utterance of given length, without running it."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from sparsify.errors import SparsifyError

# What graphs compute shapes with, none of it larger than all pairs of its elements.
_ARITHMETIC: tuple[str, ...] = (
    "Shape",
    "Constant",
    "Identity",
    "Cast",
    "Gather",
    "Slice",
    "Concat",
    "Squeeze",
)
_ARITHMETIC += ("Unsqueeze", "Reshape", "Add", "Sub", "Mul", "Div", "Mod", "Floor", "Ceil")
_SMALL = 64  # elements that such a value may have
_MOST_PASSES = 32  # each gets past everything whose shape is computed from known ones


def inferred_shapes(model: onnx.ModelProto, frames: int, bins: int) -> dict[str, tuple[int, ...]]:
    """The shapes, by the name of the value, as far as they can be inferred.

    onnx infers them; where a shape is computed in the graph, that is computed in between.

    Args:
        model: A graph with one input `(B, T, bins)`; left as it is.
        frames: T; B is 1.
        bins: Where the graph does not say.

    Raises:
        SparsifyError: The input is something else.
        Exception: One of `GRAPH_ERRORS`, for a graph that contradicts itself.
    """
    known = _with_input(model, frames, bins)
    values = _leave_out_large(known.graph)
    for _ in range(_MOST_PASSES):
        shapes = _as_inferred(onnx.shape_inference.infer_shapes(known, data_prop=True).graph)
        if not _fold(known, shapes, values):
            break
    return shapes


def known_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes that do not depend on the input, whatever the file says of them.

    None is known of a graph that onnx cannot make sense of.

    Args:
        model: Any graph; left as it is.
    """
    known = onnx.ModelProto()
    known.CopyFrom(model)
    _forget_shapes(known.graph)
    _leave_out_large(known.graph)
    try:
        return _as_inferred(onnx.shape_inference.infer_shapes(known, data_prop=True).graph)
    except onnx.shape_inference.InferenceError:
        return {}


def _with_input(model: onnx.ModelProto, frames: int, bins: int) -> onnx.ModelProto:
    """A copy that takes one utterance, and knows no other shape."""
    known = onnx.ModelProto()
    known.CopyFrom(model)
    graph = known.graph
    initialized = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in initialized]
    dims = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else []
    if len(dims) != 3:
        raise SparsifyError("the input is not [B, T, bins]")
    wanted = (1, frames, dims[2].dim_value or bins)
    given = ", ".join(str(dim.dim_value or dim.dim_param) for dim in dims)
    for dim, size in zip(dims, wanted, strict=True):
        if dim.dim_value not in (0, size):
            raise SparsifyError(f"the input [{given}] does not take {wanted}")
        dim.dim_value = size
    _forget_shapes(graph)
    return known


def _forget_shapes(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def _leave_out_large(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    """Makes inputs of large initializers, which inference would copy; returns the small ones."""
    declared = {each.name for each in graph.input}
    small = {}
    for tensor in list(graph.initializer):
        if prod(tensor.dims) <= _SMALL:
            small[tensor.name] = numpy_helper.to_array(tensor)
            continue
        if tensor.name not in declared:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
        graph.initializer.remove(tensor)
    return small


def _as_inferred(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.dim_value > 0 for dim in kind.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return shapes


def _fold(
    model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], values: dict[str, NDArray[Any]]
) -> bool:
    """Computes what can be computed of shapes, into initializers; whether there was anything."""
    graph = model.graph
    opsets = {each.domain: each.version for each in model.opset_import}
    done, left = [], []
    for node in graph.node:
        left.append(node)
        if node.op_type not in _ARITHMETIC or node.domain not in ("", "ai.onnx"):
            continue
        inputs = {name: values[name] for name in node.input if name in values}
        if node.op_type == "Shape" and node.input[0] in shapes:
            inputs = {node.input[0]: np.broadcast_to(np.float32(0), shapes[node.input[0]])}
        if len(inputs) < len({name for name in node.input if name}):
            continue
        (result,) = ReferenceEvaluator(node, opsets=opsets).run(None, inputs)
        if isinstance(result, np.ndarray | np.generic) and np.size(result) <= _SMALL:
            values[node.output[0]] = np.asarray(result)
            done.append(node.output[0])
            left.pop()
    graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in done)
    others = [onnx.NodeProto.FromString(node.SerializeToString()) for node in left]
    del graph.node[:]
    graph.node.extend(others)
    return bool(done)
