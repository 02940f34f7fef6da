"""What a graph makes of its constants before anything of the speech meets it.

A weight that is a sum, a product or a selection of constants is among none of the tensors of the
file: counting its parts says nothing of its zeros.
"""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from math import prod
from typing import NamedTuple, TypeAlias

import onnx
from onnx.inliner import inline_local_functions

from sparsify.errors import SparsifyError
from sparsify.exporters.onnx.shapes import known_shapes
from sparsify.sparsity.selection import looks_prunable

_MOST_NODES = 200_000  # that inlining may make
_TENSOR = onnx.TensorProto
_FLOATS = (_TENSOR.FLOAT, _TENSOR.FLOAT16, _TENSOR.BFLOAT16, _TENSOR.DOUBLE)
# What hands on all elements of its first input, zeros as zeros.
_PASSING: tuple[str, ...] = ("Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
_PASSING += ("DequantizeLinear",)
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div")

Shapes: TypeAlias = MutableMapping[str, Sequence[int]]
"""Shapes of tensors, by name."""


class _Value(NamedTuple):
    """What is made of constants.

    Attributes:
        name: Its name.
        source: The tensor that has its elements, if any.
        maker: The operator that made it.
        elementwise: Whether what takes it pairs it with other values one by one.
        in_branch: Whether it is in a branch, where no shapes are known.
    """

    name: str
    source: str | None
    maker: str
    elementwise: bool
    in_branch: bool


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model whose graph calls no functions of its own.

    Raises:
        SparsifyError: It would become absurdly large.
    """
    if not model.functions:
        return model
    bodies = {(each.domain, each.name, each.overload): each.node for each in model.functions}
    sizes: dict[tuple[str, str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(
            1 + called(node) + sum(size(branch.node) for branch in _branches(node))
            for node in nodes
        )

    def called(node: onnx.NodeProto) -> int:
        key = (node.domain, node.op_type, node.overload)
        if key in bodies and key not in sizes:
            sizes[key] = _MOST_NODES  # of one that calls itself
            sizes[key] = size(bodies[key])
        return sizes.get(key, 0)

    if size(model.graph.node) > _MOST_NODES:
        raise SparsifyError(f"its functions make more than {_MOST_NODES:,} operators")
    return inline_local_functions(model)


def computed_weights(model: onnx.ModelProto, constants: Shapes) -> Iterator[str]:
    """Sentences about what may be weights and has its values, or its shape, only at run time.

    Args:
        model: A model without functions.
        constants: The shapes of the tensors of its main graph, by name.
    """
    useful = useful_names(model.graph)
    nodes = [node for node in model.graph.node if useful & {*node.output}]
    found = dict.fromkeys(_found(nodes, constants))
    shapes = known_shapes(model) if found else {}
    for value in found:
        shape = None if value.in_branch else shapes.get(value.name)
        if shape is not None and not _counts(value, shape):
            continue
        if value.source is None:
            yield f"'{value.name}' is computed when the graph runs, by {value.maker}"
        else:
            yield f"'{value.source}' gets its shape only when the graph runs"


def _counts(value: _Value, shape: Sequence[int]) -> bool:
    """Whether a value of constants is a weight, and not a bias or a factor for each channel."""
    vector = sum(size != 1 for size in shape) <= 1
    return looks_prunable(shape) and not (vector and (value.source or value.elementwise))


def useful_names(graph: onnx.GraphProto) -> set[str]:
    """The names that outputs of a graph depend on."""
    makers = {output: node for node in graph.node for output in node.output}
    left = [output.name for output in graph.output]
    useful = set(left)
    while left:
        if node := makers.pop(left.pop(), None):
            new = {*_inputs(node)} - useful
            useful |= new
            left += new
    return useful


def _found(
    nodes: Sequence[onnx.NodeProto], constants: Shapes, around: Shapes | None = None
) -> Iterator[_Value]:
    """Values of constants alone that meet others, if no tensor that counts has their elements.

    Args:
        nodes: Of a graph or a branch.
        constants: The shapes of tensors in it.
        around: Of a branch, those around it; of what is computed around it, `()`.
    """
    known = ChainMap(constants, around or {})
    makers = {name: node for node in nodes for name in node.output if name not in constants}
    own = makers.keys() - _dependent(nodes, makers, known)
    for node in nodes:
        for name in own.intersection(_inputs(node)) if own.isdisjoint(node.output) else ():
            source = _source(name, makers, known)
            if source is None or _grows(known[source]):
                elementwise = node.op_type in _ELEMENTWISE
                maker = makers[name].op_type
                yield _Value(name, source, maker, elementwise, in_branch=around is not None)
        for branch in _branches(node):
            computed: Shapes = dict.fromkeys(own, ())
            yield from _found(branch.node, _constants(branch), ChainMap(computed, known))


def _constants(graph: onnx.GraphProto) -> Shapes:
    """The shapes of the tensors of a branch."""
    found: Shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for value in node.attribute:
                lists = [values for values in (value.floats, value.ints) if values]
                shape = tuple(value.t.dims) if value.HasField("t") else tuple(map(len, lists))
                found[node.output[0]] = shape
    return found


def _dependent(
    nodes: Sequence[onnx.NodeProto], makers: Mapping[str, onnx.NodeProto], constants: Shapes
) -> set[str]:
    """The values of a graph that something from outside, such as speech, takes part in."""
    users = defaultdict[str, list[onnx.NodeProto]](list)
    for node in nodes:
        for name in _inputs(node):
            users[name].append(node)
    waiting = [name for name in users if name not in makers and name not in constants]
    dependent = set(waiting)
    while waiting:
        for node in users[waiting.pop()]:
            new = {*node.output} - dependent
            dependent |= new
            waiting += new
    return dependent


def _source(name: str, makers: Mapping[str, onnx.NodeProto], constants: Shapes) -> str | None:
    """The tensor that has the elements of a value; `None` if they are computed."""
    for _ in range(len(makers) + 1):
        if name not in makers:
            return name if name in constants else None
        if not makers[name].input or not _passes(makers[name]):
            return None
        name = makers[name].input[0]
    return None  # it goes round in circles


def _grows(shape: Sequence[int]) -> bool:
    """Whether a tensor that does not count would if it had another shape."""
    return not looks_prunable(shape) and looks_prunable((1, prod(shape)))


def _passes(node: onnx.NodeProto) -> bool:
    if node.op_type == "Cast":
        return any(each.name == "to" and each.i in _FLOATS for each in node.attribute)
    return node.op_type in _PASSING


def _inputs(node: onnx.NodeProto) -> Iterator[str]:
    """What an operator takes, in its branches too."""
    yield from filter(None, node.input)
    for graph in _branches(node):
        yield from (output.name for output in graph.output)
        for inner in graph.node:
            yield from _inputs(inner)


def _branches(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs
