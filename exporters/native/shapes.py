"""Sizes of what operators make, in terms of the frames of the utterance."""

from __future__ import annotations

import sympy
import torch
from torch import fx

from sparsify.exporters.native.blob import CODES
from sparsify.exporters.native.table import UnsupportedError


def expression_of(number: torch.SymInt | int) -> sympy.Expr:
    """A size of the tracer's as an expression."""
    return sympy.Integer(number) if isinstance(number, int) else number.node.expr


def shape_of(node: fx.Node) -> tuple[sympy.Expr, ...]:
    """The shape of an operator's (first) result, its frames as an expression.

    Raises:
        UnsupportedError: The engine cannot compute them.
    """
    val = node.meta["val"]
    first = val[0] if isinstance(val, tuple | list) else val
    return tuple(computed(expression_of(size)) for size in first.shape)


def computed(number: sympy.Expr) -> sympy.Expr:
    """A number that the engine can compute.

    Raises:
        UnsupportedError: It cannot.
    """
    for part in sympy.preorder_traversal(number):
        known = part.is_Integer or part.is_Symbol or type(part).__name__ in CODES
        if not known:
            raise UnsupportedError(f"needs {number}, which the engine cannot compute")
    return number
