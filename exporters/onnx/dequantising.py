"""The float32 twin of an int8 graph of ours: what its speed is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import numpy_helper
from torch import Tensor

from sparsify.arrays import Array
from sparsify.artifact.provenance import PRECISION
from sparsify.errors import damaged
from sparsify.exporters.onnx.sealing import own_metadata, seal_graph
from sparsify.exporters.onnx.tensors import GRAPH_ERRORS, read_graph
from sparsify.tensors import arrays_of


def write_float_twin(source: Path, output: Path, tensors: Mapping[str, Tensor]) -> None:
    """Copies an int8 graph of ours without its rounding.

    Args:
        source: The file.
        output: The copy.
        tensors: Values by name for the copy, in place of those in the file.

    Raises:
        SparsifyError: The file is damaged.
        OSError: The copy cannot be written.
    """
    proto = onnx.load(source)
    # Integers as the floats that they mean.
    values = {**read_graph(source).arrays, **arrays_of(tensors)}
    try:
        _leave_out_rounding(proto.graph, values)
    except GRAPH_ERRORS as error:
        raise damaged(source, error) from error
    own = own_metadata(proto)
    del own[PRECISION]
    del proto.metadata_props[:]
    seal_graph(proto, own)
    output.write_bytes(proto.SerializeToString(deterministic=True))


def _leave_out_rounding(graph: onnx.GraphProto, values: Mapping[str, Array]) -> None:
    exact: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        inputs = [exact.get(name, name) for name in node.input]
        if node.op_type == "QuantizeLinear" and not values[node.input[2]].any():
            # Nothing is below a zero point of zero: a ReLU before it was left out for that.
            nodes.append(onnx.helper.make_node("Relu", inputs[:1], node.output))
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            exact[node.output[0]] = inputs[0]
        else:
            del node.input[:]
            node.input.extend(inputs)
            nodes.append(node)
    for end in graph.output:
        if end.name in exact:
            nodes.append(onnx.helper.make_node("Identity", [exact[end.name]], [end.name]))
    used = {name for node in nodes for name in node.input}
    weights = [
        numpy_helper.from_array(values[each.name], each.name)
        for each in graph.initializer
        if each.name in used
    ]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
