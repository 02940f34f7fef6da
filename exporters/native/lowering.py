"""From traced operators to steps on rows; each operator has a function in a table."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor, fx

from sparsify.errors import SparsifyError
from sparsify.exporters.native import (  # noqa: F401 - they register operators
    compute,
    convolution,
    pooling,
    products,
    reductions,
    views,
)
from sparsify.exporters.native.attention import UNKNOWN, Scores
from sparsify.exporters.native.buffers import row_ids
from sparsify.exporters.native.operators import Lowering
from sparsify.exporters.native.shapes import expression_of
from sparsify.exporters.native.steps import Input, Steps, Value
from sparsify.exporters.native.table import ON_SCORES, ON_SEGMENTS, OPERATORS, UnsupportedError
from sparsify.exporters.native.tracing import Trace, layer_of


def lower(trace: Trace, name: str) -> Steps:
    """Lowers a traced network.

    Args:
        trace: The network.
        name: What it is called in errors.

    Raises:
        SparsifyError: It has an operator that the engine has not, or uses one in a way that it
            cannot; the message names operator and layer.
    """
    return _Lowered(trace, name).steps


class _Lowered(Lowering):
    """Walks over a traced graph."""

    def __init__(self, trace: Trace, name: str) -> None:
        super().__init__()
        self.values: dict[fx.Node, Any] = {}
        for node in trace.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(trace, node)
            elif node.op == "call_function":
                self._call(node, name)
        output = self.values[trace.output]
        if not isinstance(output, Value) or output.time is not None:
            raise SparsifyError(f"'{name}' does not return one embedding per utterance")
        if trace.differs is not None:
            raise SparsifyError(
                f"the native engine cannot run '{name}': {trace.differs};"
                " export --format onnx instead"
            )
        self.steps.output = output.rows.reshape(-1)

    def _placeholder(self, trace: Trace, node: fx.Node) -> Value | Tensor:
        if node is not trace.feats:
            return trace.constants[node.name]
        _, frames, bins = node.meta["val"].shape
        target = self.buffer(1, bins, expression_of(frames))
        self.steps.steps.append(Input(target))
        rows = row_ids(target, np.arange(bins)).reshape(1, 1, bins)
        return Value(rows, 1, target.length)

    def _call(self, node: fx.Node, name: str) -> None:
        val = node.meta.get("val")
        if isinstance(val, torch.SymInt | torch.SymBool | torch.SymFloat | int | bool | float):
            self.values[node] = expression_of(val) if isinstance(val, torch.SymInt) else val
            return
        if val is None:  # a condition of the tracer
            return
        args = fx.map_arg(node.args, lambda each: self.values[each])
        kwargs = fx.map_arg(node.kwargs, lambda each: self.values[each])
        self.layer = layer_of(node)
        try:
            self.values[node] = self._result(node, args, kwargs)
        except UnsupportedError as error:
            raise SparsifyError(
                f"the native engine cannot run '{name}': operator '{_name(node.target)}' of"
                f" {self.layer!r} {error}; export --format onnx instead"
            ) from error

    def _result(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = [self.values[each] for each in node.all_input_nodes]
        if any(isinstance(each, torch.SymFloat | torch.SymBool) for each in inputs):
            raise UnsupportedError(
                "depends on the number of frames otherwise than by whole numbers"
            )
        if not any(_holds_value(each) for each in inputs):
            return _constant(node, inputs, args, kwargs)
        if getattr(node.target, "__name__", "") == "getitem":
            return args[0][args[1]]
        scores = any(isinstance(each, Scores) for each in inputs)
        function = (ON_SCORES if scores else OPERATORS).get(node.target)
        if function is None:
            raise UNKNOWN if scores else UnsupportedError("is none of those that it has")
        segments = any(isinstance(each, Value) and each.segment for each in inputs)
        if segments and node.target not in ON_SEGMENTS:
            raise UnsupportedError("uses the means of segments in an unknown way")
        try:
            inspect.signature(function).bind(self, *args, node=node, **kwargs)
        except TypeError as error:
            raise UnsupportedError("is given options that are not known") from error
        return function(self, *args, node=node, **kwargs)


def _constant(node: fx.Node, inputs: list[Any], args: Any, kwargs: Any) -> Any:
    """What an operator makes of weights alone."""
    if any(isinstance(each, sympy.Expr) for each in inputs):
        raise UnsupportedError("makes a tensor that depends on the number of frames")
    if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        raise UnsupportedError("draws random numbers")
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _holds_value(item: Any) -> bool:
    if isinstance(item, list | tuple):
        return any(_holds_value(each) for each in item)
    return isinstance(item, Value | Scores)


def _name(target: Any) -> str:
    return str(getattr(target, "overloadpacket", getattr(target, "__name__", target)))
