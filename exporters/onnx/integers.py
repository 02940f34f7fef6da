"""Integer weights in graphs: where operators take them, and which of their values means zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import DTypeLike

from sparsify.arrays import Array
from sparsify.sparsity.selection import looks_prunable

Place: TypeAlias = tuple[int, int | None]
"""Among the inputs of an operator: a tensor, and its zero point if it has any."""

# As the specifications of the operators have them, ONNX's and onnxruntime's.
_PLACES: Mapping[str, tuple[Place, ...]] = {
    "DequantizeLinear": ((0, 2),),
    "ConvInteger": ((0, 2), (1, 3)),
    "MatMulInteger": ((0, 2), (1, 3)),
    "QLinearConv": ((0, 2), (3, 5), (8, None)),
    "QLinearMatMul": ((0, 2), (3, 5)),
    "QGemm": ((0, 2), (3, 5), (6, None)),
    "MatMulIntegerToFloat": ((0, 4), (1, 5)),
    "DynamicQuantizeMatMul": ((1, 3),),
}
_SCALES: Mapping[str, tuple[int, ...]] = {
    "DequantizeLinear": (1,),
    "QuantizeLinear": (1, 2),
    "QLinearConv": (1, 4, 6, 7),
    "QLinearMatMul": (1, 4, 6, 7),
    "QGemm": (1, 4, 7, 8),
    "MatMulIntegerToFloat": (2, 3),
    "DynamicQuantizeMatMul": (2,),
}


@dataclass
class Integers:
    """The integer weights of a graph.

    Attributes:
        zero_points: By the name of a weight, its zero point, which broadcasts with it.
        scales: The same of its scale; one where another operator multiplies by it.
        unknown: Weights whose zero point the graph computes, or that have two.
        helpers: Names of scales and zero points, which are no weights; large ones are nothing else.
    """

    zero_points: dict[str, Array] = field(default_factory=dict)
    scales: dict[str, Array] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    helpers: set[str] = field(default_factory=set)


def integers_in(graph: onnx.GraphProto, tensors: Mapping[str, Array]) -> Integers:
    """Which tensors of a graph are integer weights.

    Args:
        graph: The main graph of a model.
        tensors: Its constants, by name.
    """
    found, helpers = Integers(), Counter[str]()
    for node in graph.node:
        helpers.update(_inputs(node, _SCALES.get(node.op_type, ())))
        for place, zero_place in _PLACES.get(node.op_type, ()):
            (name,) = _inputs(node, (place,)) or ("",)
            zero_names = _inputs(node, (zero_place,)) if zero_place is not None else []
            helpers.update(zero_names)
            if name not in tensors:
                continue
            zero: Array | None = np.zeros((), dtype=np.float32)
            scale: Array | None = np.ones((), dtype=np.float32)
            if zero_names:
                zero = _beside(node, tensors[name], tensors.get(zero_names[0]))
            if node.op_type == "DequantizeLinear":
                scale = _beside(node, tensors[name], tensors.get(node.input[1]))
            if zero is None or scale is None:
                found.unknown.add(name)
                continue
            for known, value in ((found.zero_points, zero), (found.scales, scale)):
                if not _same(known.setdefault(name, value), value):
                    found.unknown.add(name)
    for name in found.unknown:
        found.zero_points.pop(name, None)
    uses = Counter(name for node in graph.node for name in node.input)
    found.helpers = {
        name
        for name in helpers
        if name not in tensors
        or helpers[name] == uses[name]
        or not looks_prunable(tensors[name].shape)
    }
    return found


def centred(tensor: Array, zero_point: Array, scale: Array) -> Array:
    """What an integer weight means, in float32."""
    with np.errstate(all="ignore"):  # whatever a file says
        whole = tensor.astype(np.float32) - zero_point.astype(np.float32)
        return np.asarray(whole * scale.astype(np.float32))


def as_stored(values: Array, zero_point: Array, scale: Array, dtype: DTypeLike) -> Array:
    """An integer weight of a type, for what `centred` has made of it; only zeros become zeros."""
    limits = np.iinfo(np.dtype(dtype))
    with np.errstate(all="ignore"):
        levels = np.nan_to_num(
            values.astype(np.float64) / scale, nan=0, posinf=limits.max, neginf=limits.min
        )
        stored = np.clip(np.round(levels) + zero_point, limits.min, limits.max)
    nearest = zero_point + np.where(zero_point < limits.max, 1.0, -1.0)
    lost = (values != 0) & (stored == zero_point)
    chosen: Array = np.where(lost, nearest, stored).astype(dtype)
    return chosen


def _inputs(node: onnx.NodeProto, places: tuple[int, ...]) -> list[str]:
    return [node.input[place] for place in places if place < len(node.input) and node.input[place]]


def _beside(node: onnx.NodeProto, tensor: Array, given: Array | None) -> Array | None:
    """A zero point or a scale as it broadcasts with a tensor; `None` if it is not known."""
    if given is None or not given.size:
        return None
    if given.size == 1 or (given == given.flat[0]).all():
        return given.reshape(-1)[:1].reshape(())
    axis = _axis(node, tensor)
    if given.ndim != 1 or axis is None or tensor.shape[axis] != len(given):
        return None
    return given.reshape([-1 if each == axis else 1 for each in range(tensor.ndim)])


def _axis(node: onnx.NodeProto, tensor: Array) -> int | None:
    """Along which axis a weight has a zero point for each channel."""
    if node.op_type == "DequantizeLinear":
        axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
        return axis % tensor.ndim if -tensor.ndim <= axis < tensor.ndim else None
    if node.op_type in ("ConvInteger", "QLinearConv"):
        return 0
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return 0 if transposed else tensor.ndim - 1


def _same(one: Array, other: Array) -> bool:
    with np.errstate(all="ignore"):
        return one.shape == other.shape and np.array_equal(one, other.astype(one.dtype))
