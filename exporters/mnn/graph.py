"""The weights in a `.mnn` file, whoever wrote it, and their zeros filled.

The fields are those of MNN's schema (`schema/default/*.fbs` of https://github.com/alibaba/MNN), of
which a number never changes its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsify.artifact.plain import Room, damaged
from sparsify.errors import SparsifyError
from sparsify.exporters.mnn.tables import TABLE_ERRORS, Tables
from sparsify.exporters.twin import without_zeros

_MOST_BYTES = (1 << 31) - 1  # of any FlatBuffers file
_NET_MAKER, _NET_OPERATORS = 0, 3
_OPERATOR_KIND, _OPERATOR_CONTENT, _OPERATOR_NAME, _OPERATOR_TYPE = 1, 2, 3, 5
_BLOB, _CONVOLUTION, _INPUT, _SCALE = 7, 9, 21, 58  # kinds of content
_DEPTHWISE = 13  # a type of operator
_COMMON, _WEIGHT, _BIAS, _COMPRESSED, _ABOUT_ZEROS = 0, 1, 2, 3, 5  # of a convolution
_WIDTH, _HEIGHT, _OUTPUTS = 2, 3, 10  # of what convolutions have in common
_VALUES, _COUNT, _PLACES = 1, 12, 13  # of compressed weights
_FLOATS = "<f4"
# Where other float vectors are, by kind of content, and how their names end.
_VECTORS = {
    _BLOB: (("", 7),),
    _CONVOLUTION: ((".bias", _BIAS),),
    _SCALE: ((".scale", 1), (".bias", 2)),
}


@dataclass(frozen=True)
class Operator:
    """A convolution or linear layer.

    Attributes:
        name: What MNN calls it.
        type: `Convolution` or `ConvolutionDepthwise`.
        weight: Dense, `(outputs, inputs of a group, height, width)`; `None` if it is stored in a
            way that is not read here, such as quantised.
    """

    name: str
    type: str
    weight: Tensor | None


@dataclass(frozen=True)
class Graph:
    """What a `.mnn` file holds.

    Attributes:
        maker: What its maker wrote into it.
        input_shapes: Shapes of the inputs, -1 where any size will do.
        operators: The convolutions and linear layers, in their order.
        others: Biases, scales and float constants, by name.
    """

    maker: str
    input_shapes: tuple[tuple[int, ...], ...]
    operators: tuple[Operator, ...]
    others: dict[str, Tensor]


def read_graph(path: Path) -> Graph:
    """Reads a `.mnn` file, without MNN.

    Raises:
        SparsifyError: It is damaged, or would become absurdly large.
        OSError: It cannot be read.
    """
    try:
        return _graph(_tables(path))
    except TABLE_ERRORS as error:
        raise damaged(path, error) from error
    except SparsifyError as error:
        raise SparsifyError(f"'{path}': {error}") from error


def fill_zeros(path: Path, output: Path) -> None:
    """Copies a `.mnn` file, with values of its tensor's scale in place of the zeros of each weight.

    What was compressed stays in the file, unused, until MNN's converter writes it again.

    Raises:
        SparsifyError: It is damaged, or would become absurdly large.
        OSError: It cannot be read or written.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        tables = _tables(path)
        room = Room(len(tables.data))
        contents = [place for _, kind, place in _operators(tables) if kind == _CONVOLUTION]
        for content in contents:
            weight = _weight(tables, content, room)
            if weight is not None:
                _store(tables, content, without_zeros(weight, generator).reshape(-1).numpy())
    except TABLE_ERRORS as error:
        raise damaged(path, error) from error
    output.write_bytes(tables.data)


def _store(tables: Tables, content: int, weight: NDArray[np.float32]) -> None:
    """Gives a convolution another weight, not compressed."""
    if tables.child(content, _WEIGHT) is None:
        tables.replace(content, (_COMPRESSED, _ABOUT_ZEROS), _WEIGHT, weight)
    else:
        tables.vector(content, _WEIGHT, _FLOATS)[:] = weight


def _tables(path: Path) -> Tables:
    if path.stat().st_size > _MOST_BYTES:
        raise SparsifyError("not a .mnn file: those have at most 2 GiB")
    return Tables(bytearray(path.read_bytes()))


def _graph(tables: Tables) -> Graph:
    room = Room(len(tables.data))
    inputs, operators, others = [], [], {}
    for operator, kind, content in _operators(tables):
        name = tables.text(operator, _OPERATOR_NAME)
        if kind == _INPUT:
            inputs.append(tuple(int(size) for size in tables.vector(content, 0, "<i4")))
        if kind == _CONVOLUTION:
            depthwise = tables.integer(operator, _OPERATOR_TYPE) == _DEPTHWISE
            type_ = "ConvolutionDepthwise" if depthwise else "Convolution"
            operators.append(Operator(name, type_, _weight(tables, content, room)))
        for suffix, field in _VECTORS.get(kind, ()):
            values = tables.vector(content, field, _FLOATS)
            if values.size:
                room.take(f"'{name}'", values.shape, values.itemsize)
                others[f"{name}{suffix}"] = torch.from_numpy(values.copy())
    return Graph(tables.text(tables.root, _NET_MAKER), tuple(inputs), tuple(operators), others)


def _operators(tables: Tables) -> Iterator[tuple[int, int, int]]:
    """Where each operator is, what kind of content it has, and where that is."""
    for operator in tables.children(tables.root, _NET_OPERATORS):
        content = tables.child(operator, _OPERATOR_CONTENT)
        if content is not None:
            yield operator, tables.byte(operator, _OPERATOR_KIND), content


def _weight(tables: Tables, content: int, room: Room) -> Tensor | None:
    """The dense weight of a convolution, unless it is stored in a way that is not read."""
    values = tables.vector(content, _WEIGHT, _FLOATS)
    places = None
    count = values.size
    compressed = tables.child(content, _COMPRESSED)
    if not count and compressed is not None:
        values = tables.vector(compressed, _VALUES, _FLOATS)
        places = tables.vector(compressed, _PLACES, "<u4")
        count = tables.integer(compressed, _COUNT) if places.size else 0
    common = tables.child(content, _COMMON)
    if common is None or not count:
        return None
    height, width = tables.integer(common, _HEIGHT, 1), tables.integer(common, _WIDTH, 1)
    outputs = tables.integer(common, _OUTPUTS)
    shape = (outputs, count // (outputs * height * width or 1), height, width)
    room.take("a weight", shape, 4)
    if math.prod(shape) != count:
        raise ValueError(f"{count} weights have no shape {list(shape)}")
    if places is None:
        return torch.from_numpy(values.copy()).reshape(shape)
    dense = np.zeros(count, np.float32)
    dense[places] = values
    return torch.from_numpy(dense).reshape(shape)
