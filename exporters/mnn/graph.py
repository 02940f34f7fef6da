"""The weights in a `.mnn` file, whoever wrote it, and their zeros filled.

The fields are those of MNN's schema (`schema/default/*.fbs` of https://github.com/alibaba/MNN), of
which a number never changes its meaning. Importing this module takes no torch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from sparsify.artifact.room import MOST_DIMENSIONS, Room
from sparsify.errors import SparsifyError, damaged
from sparsify.exporters.mnn.tables import TABLE_ERRORS, Tables

Weight: TypeAlias = NDArray[np.float32]

_MOST_BYTES = (1 << 31) - 1  # of any FlatBuffers file
_NET_MAKER, _NET_OPERATORS, _NET_UUID = 0, 3, 11
_INPUTS, _KIND, _CONTENT, _NAME, _OUTPUTS, _TYPE = range(6)  # of an operator
_BLOB, _CONVOLUTION, _INPUT, _SCALE = 7, 9, 21, 58  # kinds of content
_DEPTHWISE = 13  # a type of operator
DEPTHWISE = "ConvolutionDepthwise"
"""What it is called."""
_COMMON, _WEIGHT, _BIAS, _COMPRESSED, _ABOUT_ZEROS = 0, 1, 2, 3, 5  # of a convolution
_WIDTH, _HEIGHT, _CHANNELS = 2, 3, 10  # of what convolutions have in common
_VALUES, _COUNT, _PLACES = 1, 12, 13  # of compressed weights
_BLOB_FLOATS = 7
_FLOATS = "<f4"
# Where other float vectors are, by kind of content, and how their names end.
_VECTORS = {
    _BLOB: (("", _BLOB_FLOATS),),
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
    weight: Weight | None


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
    others: dict[str, Weight]


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


def fill_zeros(path: Path, output: Path, filled: Callable[[Weight], Weight]) -> None:
    """Copies a `.mnn` file, its weights without zeros.

    What was compressed stays in the file, unused, until MNN's converter writes it again.

    Args:
        path: The file.
        output: The copy.
        filled: From a weight to one of its shape without zeros.

    Raises:
        SparsifyError: It is damaged, or would become absurdly large.
        OSError: It cannot be read or written.
    """
    try:
        tables = _tables(path)
        room = Room(len(tables.data))
        for layer in [each for each in _operators(tables) if each.kind == _CONVOLUTION]:
            weight = _weight(tables, layer, room)
            if weight is not None:
                _store(tables, layer, filled(weight).reshape(-1))
    except TABLE_ERRORS as error:
        raise damaged(path, error) from error
    output.write_bytes(tables.data)


def derive_uuid(path: Path) -> None:
    """Replaces the UUID that MNN's converter draws by one that the rest of the file determines.

    Raises:
        OSError: The file cannot be read or written.
    """
    tables = _tables(path)
    uuid = tables.vector(tables.root, _NET_UUID, "<u1")
    uuid[:] = 0
    derived = str(UUID(bytes=hashlib.sha256(tables.data).digest()[:16])).encode()
    uuid[:] = np.frombuffer(derived, np.uint8)[: uuid.size]
    path.write_bytes(tables.data)


@dataclass(frozen=True)
class _Operator:
    """Where things are.

    Attributes:
        place: Of the operator.
        kind: Of its content.
        content: Place of that.
        constant: Of a convolution without a weight of its own: place of the constant that it is
            given. Equal weights, such as several that are all zero, are merged into one.
    """

    place: int
    kind: int
    content: int
    constant: int | None


def _tables(path: Path) -> Tables:
    if path.stat().st_size > _MOST_BYTES:
        raise SparsifyError("not a .mnn file: those have at most 2 GiB")
    return Tables(bytearray(path.read_bytes()))


def _graph(tables: Tables) -> Graph:
    room = Room(len(tables.data))
    listed = list(_operators(tables))
    merged = {each.constant for each in listed}
    inputs, operators, others = [], [], {}
    for each in listed:
        name = tables.text(each.place, _NAME)
        if each.kind == _INPUT:
            sizes = tables.vector(each.content, 0, "<i4")
            if sizes.size > MOST_DIMENSIONS:
                raise ValueError(f"an input of {sizes.size} dimensions")
            inputs.append(tuple(sizes.tolist()))
        if each.kind == _CONVOLUTION:
            depthwise = tables.integer(each.place, _TYPE) == _DEPTHWISE
            type_ = DEPTHWISE if depthwise else "Convolution"
            operators.append(Operator(name, type_, _weight(tables, each, room)))
        if each.content in merged:
            continue
        for suffix, field in _VECTORS.get(each.kind, ()):
            values = tables.vector(each.content, field, _FLOATS)
            if values.size:
                room.take(f"'{name}'", values.shape, values.itemsize)
                others[f"{name}{suffix}"] = values.astype(np.float32)
    return Graph(tables.text(tables.root, _NET_MAKER), tuple(inputs), tuple(operators), others)


def _operators(tables: Tables) -> Iterator[_Operator]:
    """The operators that have content."""
    constants: dict[int, int] = {}
    listed = 0
    for place in tables.children(tables.root, _NET_OPERATORS):
        content = tables.child(place, _CONTENT)
        if content is None:
            continue
        kind = tables.byte(place, _KIND)
        constant = None
        if kind == _CONVOLUTION and not any(
            tables.child(content, field) for field in (_WEIGHT, _COMPRESSED)
        ):
            inputs = tables.vector(place, _INPUTS, "<i4")
            constant = constants.get(int(inputs[1])) if len(inputs) > 1 else None
        if kind == _BLOB:
            outputs = tables.vector(place, _OUTPUTS, "<i4")
            listed += outputs.nbytes
            if listed > len(tables.data):
                raise ValueError("more outputs are listed than the file has bytes for")
            constants |= dict.fromkeys(outputs.tolist(), content)
        yield _Operator(place, kind, content, constant)


def _weight(tables: Tables, layer: _Operator, room: Room) -> Weight | None:
    """The dense weight of a convolution, unless it is stored in a way that is not read."""
    if layer.constant is not None:
        values = tables.vector(layer.constant, _BLOB_FLOATS, _FLOATS)
    else:
        values = tables.vector(layer.content, _WEIGHT, _FLOATS)
    places = None
    count = values.size
    compressed = tables.child(layer.content, _COMPRESSED)
    if not count and compressed is not None:
        values = tables.vector(compressed, _VALUES, _FLOATS)
        places = tables.vector(compressed, _PLACES, "<u4")
        count = tables.integer(compressed, _COUNT) if places.size else 0
    common = tables.child(layer.content, _COMMON)
    if common is None or not count:
        return None
    height, width = tables.integer(common, _HEIGHT, 1), tables.integer(common, _WIDTH, 1)
    channels = tables.integer(common, _CHANNELS)
    shape = (channels, count // (channels * height * width or 1), height, width)
    room.take("a weight", shape, 4)
    if math.prod(shape) != count:
        raise ValueError(f"{count} weights have no shape {list(shape)}")
    if places is None:
        return values.astype(np.float32).reshape(shape)
    dense = np.zeros(count, np.float32)
    dense[places] = values
    return dense.reshape(shape)


def _store(tables: Tables, layer: _Operator, weight: Weight) -> None:
    """Gives a convolution another weight, not compressed."""
    if layer.constant is not None:
        tables.vector(layer.constant, _BLOB_FLOATS, _FLOATS)[:] = weight
    elif tables.child(layer.content, _WEIGHT) is None:
        tables.replace(layer.content, (_COMPRESSED, _ABOUT_ZEROS), _WEIGHT, weight)
    else:
        tables.vector(layer.content, _WEIGHT, _FLOATS)[:] = weight
