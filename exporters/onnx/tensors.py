"""Reads the weights of ONNX files, whoever wrote them, and nothing beyond the model's folder.

Importing this module takes no torch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
from onnx import numpy_helper

from sparsify.arrays import Array, countable, is_floating, is_native
from sparsify.artifact.room import Room, check_shape
from sparsify.errors import SparsifyError, damaged
from sparsify.exporters.onnx.computed import computed_weights, inlined, useful_names
from sparsify.exporters.onnx.integers import Integers, centred, integers_in
from sparsify.sparsity.selection import looks_prunable

_MOST_BYTES = (1 << 31) - 1  # of any protobuf
# What looking at a graph that contradicts itself can end in.
GRAPH_ERRORS = (
    DecodeError,
    onnx.checker.ValidationError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
)


@dataclass(frozen=True)
class Graph:
    """What an ONNX file holds.

    Attributes:
        arrays: Initializers and constants of the main graph, dense, by name; integer weights as
            the floats that they mean, or multiples of these.
        operators: The operator that consumes each tensor.
        model: All of it.
        integers: Which of the arrays are integer weights.
        left_out: What may be weights and is not among the arrays, or not to be counted.
        beside: Files beside it that have some of the values.
    """

    arrays: dict[str, Array]
    operators: Mapping[str, str]
    model: onnx.ModelProto
    integers: Integers
    left_out: tuple[str, ...]
    beside: tuple[Path, ...]


def read_graph(path: Path) -> Graph:
    """Reads an ONNX file, and its external data from the same folder.

    Raises:
        SparsifyError: It is damaged, names a file elsewhere, or would become absurdly large.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise SparsifyError(f"'{path}' is not a .onnx file: those have at most 2 GiB")
    try:
        model = inlined(onnx.load_model_from_string(path.read_bytes()))
        if not model.graph.node:
            raise ValueError("it has no graph")
        _check_texts(model)
        reader = _Reader(path, size, model)
        arrays = dict(reader.arrays(model.graph))
        operators = {name: node.op_type for node in model.graph.node for name in node.input}
        integers = integers_in(model.graph, arrays)
        doubts = (
            *_uncountable(arrays, useful_names(model.graph), integers),
            *computed_weights(model, {name: each.shape for name, each in arrays.items()}),
            *_unread(model),
        )
        arrays |= {
            name: centred(arrays[name], zero, integers.scales[name])
            for name, zero in integers.zero_points.items()
        }
    except GRAPH_ERRORS as error:
        raise damaged(path, error) from error
    except SparsifyError as error:
        raise SparsifyError(f"'{path}': {error}") from error
    return Graph(arrays, operators, model, integers, tuple(dict.fromkeys(doubts)), reader.files)


def takes_samples(model: onnx.ModelProto) -> bool:
    """Whether a graph is given samples `(B, samples)`, and not features."""
    initialized = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in initialized]
    return len(inputs) == 1 and len(inputs[0].type.tensor_type.shape.dim) == 2


class _Reader:
    """Makes arrays of the tensors of one file."""

    def __init__(self, path: Path, size: int, model: onnx.ModelProto) -> None:
        self._folder = path.parent.resolve()
        external = [each for each in _all_tensors(model) if _is_external(each)]
        self.files = tuple(dict.fromkeys(self._external_file(tensor) for tensor in external))
        self._room = Room(size + sum(file.stat().st_size for file in self.files))

    def arrays(self, graph: onnx.GraphProto) -> Iterator[tuple[str, Array]]:
        """The weights of a graph; strings are none."""
        for tensor in graph.initializer:
            if tensor.data_type != onnx.TensorProto.STRING:
                yield tensor.name, _countable(tensor.name, self._array(tensor))
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            yield name, _countable(name, self._densified(name, sparse))
        constants = [node for node in graph.node if node.op_type == "Constant" and node.output]
        for node in constants:
            name = node.output[0]
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.t.data_type != onnx.TensorProto.STRING:
                    yield name, _countable(name, self._array(attribute.t))
                elif attribute.name == "value_floats":
                    yield name, np.array(attribute.floats, dtype=np.float32)
                elif attribute.name == "sparse_value":
                    sparse = attribute.sparse_tensor
                    yield name, _countable(name, self._densified(name, sparse))

    def _array(self, tensor: onnx.TensorProto) -> Array:
        check_shape(f"tensor '{tensor.name}'", tensor.dims)
        if _is_external(tensor):
            file = self._external_file(tensor)
            start, length = _part(tensor, file.stat().st_size)
            self._room.take(f"tensor '{tensor.name}'", [length], 1)
            with file.open("rb") as stream:
                stream.seek(start)
                tensor.raw_data = stream.read(length)
            tensor.ClearField("data_location")
            del tensor.external_data[:]
        return numpy_helper.to_array(tensor)

    def _densified(self, name: str, sparse: onnx.SparseTensorProto) -> Array:
        """A sparse tensor (COO, indices linear or one row per value) with its zeros."""
        shape = tuple(sparse.dims)
        values, indices = self._array(sparse.values), self._array(sparse.indices)
        self._room.take(f"tensor '{name}'", shape, max(values.itemsize, 4))
        bounds = np.array([math.prod(shape)] if indices.ndim == 1 else shape, dtype=np.int64)
        rows = indices.reshape(len(values), len(bounds)) if values.ndim == 1 else None
        if rows is None or rows.dtype != np.int64 or ((rows < 0) | (rows >= bounds)).any():
            raise ValueError(f"the indices of sparse tensor '{name}' do not fit shape {shape}")
        dense = np.zeros(shape, dtype=values.dtype)
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
        return dense

    def _external_file(self, tensor: onnx.TensorProto) -> Path:
        """The file with the data of a tensor, links followed; it must lie beside the model."""
        location = _external(tensor).get("location", "")
        file = (self._folder / location).resolve()
        if not file.is_relative_to(self._folder):
            raise SparsifyError(
                f"tensor '{tensor.name}' is in '{location}', outside the folder of the model: put"
                " all files of a model into one folder"
            )
        if not file.is_file():
            raise SparsifyError(f"tensor '{tensor.name}' is in '{location}', which is missing")
        return file


def _check_texts(model: onnx.ModelProto) -> None:
    """Refuses names that are not UTF-8, which protobuf hands out as bytes."""
    graph = model.graph
    texts = [text for entry in model.metadata_props for text in (entry.key, entry.value)]
    texts += [tensor.name for tensor in graph.initializer]
    texts += [sparse.values.name for sparse in graph.sparse_initializer]
    texts += [text for node in graph.node for text in (node.op_type, *node.input, *node.output)]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name in it is not UTF-8 text")


def _all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors of a model wherever a runtime would look for them."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _parts(graph.sparse_initializer)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        yield from _parts([attribute.sparse_tensor, *attribute.sparse_tensors])
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors_of_graph(graph)


def _parts(sparse: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for each in sparse:
        yield from (each.values, each.indices)


def _uncountable(
    arrays: Mapping[str, Array], useful: Collection[str], integers: Integers
) -> Iterator[str]:
    """Sentences about tensors of a graph that may be weights and tell no zeros."""
    for name, array in arrays.items():
        if name in integers.helpers or not looks_prunable(array.shape):
            continue
        if name not in useful:
            yield f"no output depends on '{name}'"
        elif name in integers.unknown or not (is_floating(array) or name in integers.zero_points):
            yield f"'{name}' holds integers, whose zero point is not known"


def _unread(model: onnx.ModelProto) -> Iterator[str]:
    """Sentences about tensors that are neither initializers nor constants of the main graph."""
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    for function in model.functions:
        yield f"the function '{function.name}' is not read"
    for tensor in _tensors_of_nodes(nodes):
        if looks_prunable(tensor.dims):
            yield f"'{tensor.name}' lies in a part of the graph that is not read"


def _is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _external(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _part(tensor: onnx.TensorProto, size: int) -> tuple[int, int]:
    """Where in a file of some size the data of a tensor is: the offset and the length."""
    found = _external(tensor)
    start = int(found.get("offset", 0))
    length = int(found.get("length", size - start))
    if start < 0 or length < 0 or start + length > size:
        raise ValueError(f"tensor '{tensor.name}' ends beyond its file '{found['location']}'")
    return start, length


def _countable(name: str, array: Array) -> Array:
    if not is_native(array.dtype):
        # bfloat16, float8 and int4 are no numpy types of their own; float32 holds all their values.
        array = array.astype(np.float32)
    return countable(name, array.copy())
