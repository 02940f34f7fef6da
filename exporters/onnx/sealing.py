"""Our metadata in a graph, and the seal of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from onnx import numpy_helper

from sparsify.artifact.seals import Entry, metadata_entries, seal

_PREFIX = "sparsify."


def own_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """What sparsify wrote into the metadata of a model, without the prefix."""
    return {
        entry.key.removeprefix(_PREFIX): entry.value
        for entry in model.metadata_props
        if entry.key.startswith(_PREFIX)
    }


def others_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The rest of the metadata of a model."""
    return {p.key: p.value for p in model.metadata_props if not p.key.startswith(_PREFIX)}


def seal_graph(model: onnx.ModelProto, own: Mapping[str, str]) -> None:
    """Gives a graph our metadata, with a seal of both."""
    sealed = {**own, **seal(graph_entries(own, model))}
    properties = {f"{_PREFIX}{key}": value for key, value in sealed.items()}
    onnx.helper.set_model_props(model, others_metadata(model) | properties)


def graph_entries(metadata: Mapping[str, str], model: onnx.ModelProto) -> Iterator[Entry]:
    """Of an `.onnx` file: our metadata besides a seal, and what its main graph computes.

    How it stores the values, and names, notes and shapes that make no difference, are left out:
    tools add them. Which value goes where is a value, too.
    """
    yield from metadata_entries(metadata)
    yield repr(sorted((each.domain, each.version) for each in model.opset_import)), b""
    graph = model.graph
    for tensor in sorted(graph.initializer, key=lambda tensor: tensor.name):
        yield _tensor_entry(tensor)
    for sparse in graph.sparse_initializer:
        yield f"sparse {sparse.values.name}", sparse.SerializeToString(deterministic=True)
    for end in (*graph.input, *graph.output):
        yield end.name, end.type.SerializeToString(deterministic=True)
    for node in graph.node:
        yield f"{node.domain} {node.op_type}", repr((*node.input, "→", *node.output)).encode()
        for attribute in sorted(node.attribute, key=lambda attribute: attribute.name):
            described = f"{attribute.name} {attribute.type}"
            if attribute.type == onnx.AttributeProto.TENSOR:
                outline, value = _tensor_entry(attribute.t)
                yield f"{described} {outline}", value
            else:
                plain = onnx.AttributeProto()
                plain.CopyFrom(attribute)
                plain.doc_string = ""
                yield described, plain.SerializeToString(deterministic=True)


def _tensor_entry(tensor: onnx.TensorProto) -> Entry:
    """A tensor, wherever its message keeps the values."""
    outline = f"{tensor.name}\0{tensor.data_type}\0{tuple(tensor.dims)}\0"
    if tensor.data_type == onnx.TensorProto.STRING:
        return outline, b"\0".join(tensor.string_data)
    return outline, numpy_helper.to_array(tensor).tobytes()
