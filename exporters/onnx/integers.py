"""Integer weights in graphs: where operators take them, and which of their values means zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx
import torch
from torch import Tensor

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

    zero_points: dict[str, Tensor] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    helpers: set[str] = field(default_factory=set)


def integers_in(graph: onnx.GraphProto, tensors: Mapping[str, Tensor]) -> Integers:
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
            zero: Tensor | None = torch.zeros(())
            scale: Tensor | None = torch.ones(())
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


def centred(tensor: Tensor, zero_point: Tensor, scale: Tensor) -> Tensor:
    """What an integer weight means, in float32."""
    return (tensor.float() - zero_point.float()) * scale.float()


def as_stored(values: Tensor, zero_point: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """An integer weight of a type, for what `centred` has made of it; only zeros become zeros."""
    limits = torch.iinfo(dtype)
    levels = (values / scale).nan_to_num(0, limits.max, limits.min)
    stored = (levels.round() + zero_point).clamp(limits.min, limits.max)
    nearest = zero_point + torch.where(zero_point < limits.max, 1.0, -1.0)
    lost = (values != 0) & (stored == zero_point)
    return torch.where(lost, nearest, stored).to(dtype)


def _inputs(node: onnx.NodeProto, places: tuple[int, ...]) -> list[str]:
    return [node.input[place] for place in places if place < len(node.input) and node.input[place]]


def _beside(node: onnx.NodeProto, tensor: Tensor, given: Tensor | None) -> Tensor | None:
    """A zero point or a scale as it broadcasts with a tensor; `None` if it is not known."""
    if given is None or not given.numel():
        return None
    if given.numel() == 1 or (given == given.flatten()[0]).all():
        return given.flatten()[0]
    axis = _axis(node, tensor)
    if given.dim() != 1 or axis is None or tensor.shape[axis] != len(given):
        return None
    return given.reshape([-1 if each == axis else 1 for each in range(tensor.dim())])


def _axis(node: onnx.NodeProto, tensor: Tensor) -> int | None:
    """Along which axis a weight has a zero point for each channel."""
    if node.op_type == "DequantizeLinear":
        axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
        return axis % tensor.dim() if -tensor.dim() <= axis < tensor.dim() else None
    if node.op_type in ("ConvInteger", "QLinearConv"):
        return 0
    transposed = any(each.name == "transB" and each.i for each in node.attribute)
    return 0 if transposed else tensor.dim() - 1


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other.to(one.dtype))
