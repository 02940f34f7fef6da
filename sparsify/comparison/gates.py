"""Gates: conditions on results, such as `adabreg@0.9.eer_percent > gmp@0.9.eer_percent + 0.5`.

A gate is made of numbers, figures `METHOD@TARGET.METRIC` (a target in multiply-adds
being `macs0.1`), `+ - * /`, comparisons, `and`, `or` and
parentheses. Python's own parser reads it; nothing else of Python is accepted, and nothing is ever
executed.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsify.comparison.cells import Target, cell_label
from sparsify.errors import SparsifyError, did_you_mean

_FIGURE = re.compile(
    r"(?P<cell>[A-Za-z_][\w-]*(?:@(?:macs)?[0-9.]*[0-9](?:e-?[0-9]+)?)?)\.(?P<metric>[A-Za-z_]\w*(?:\.\w+)*)"
)
_FORM = "a gate is a condition such as 'adabreg@0.9.eer_percent > dense.eer_percent + 0.5'"
_ARITHMETIC: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: Mapping[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True)
class Figure:
    """A mean over seeds that a gate refers to.

    Attributes:
        cell: Method and target, `adabreg@0.9`, or a method alone.
        metric: Such as `eer_percent`, or `noisy.eer_percent` for a test set of that name.
    """

    cell: str
    metric: str


@dataclass(frozen=True)
class Gate:
    """A parsed condition.

    Attributes:
        text: As it was given.
        figures: What it refers to, by the placeholder that stands for it in `condition`.
        condition: The syntax tree.
    """

    text: str
    figures: Mapping[str, Figure]
    condition: ast.expr

    def check(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuses references to what does not exist.

        Args:
            metrics: By `adabreg@0.9` and the like: what is, or will be, known of it by metric.

        Raises:
            SparsifyError: There is no such method, target or metric.
        """
        for figure in self.figures.values():
            if figure.cell not in metrics:
                raise SparsifyError(
                    f"gate '{self.text}': nothing was compared as '{figure.cell}',"
                    f" {did_you_mean(figure.cell, metrics)}"
                )
            known = metrics[figure.cell]
            if figure.metric not in known:
                raise SparsifyError(
                    f"gate '{self.text}': '{figure.cell}' has no metric '{figure.metric}',"
                    f" {did_you_mean(figure.metric, known)}"
                )

    def holds(self, metrics: Mapping[str, Mapping[str, float]]) -> bool:
        """Whether the condition is true of these figures.

        Raises:
            SparsifyError: A figure is unknown, or something is divided by zero or too large.
        """
        self.check(metrics)
        try:
            return bool(_value(self.condition, self._values(metrics)))
        except (ZeroDivisionError, OverflowError) as error:
            raise SparsifyError(
                f"a gate cannot be computed ({error}): {self.with_numbers(metrics)}"
            ) from error

    def sides(self, metrics: Mapping[str, Mapping[str, float]]) -> tuple[float, float] | None:
        """What is compared with what, where the condition is one comparison."""
        match self.condition:
            case ast.Compare(left=left, comparators=[right]):
                values = self._values(metrics)
                return _value(left, values), _value(right, values)
        return None

    def with_numbers(self, metrics: Mapping[str, Mapping[str, float]]) -> str:
        """The condition with every figure replaced by its number."""
        values = self._values(metrics)
        return re.sub(
            "|".join(values) or "$^", lambda m: f"{values[m[0]]:.5g}", ast.unparse(self.condition)
        )

    def _values(self, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        return {name: metrics[of.cell][of.metric] for name, of in self.figures.items()}


def parse_gate(text: str) -> Gate:
    """Reads a condition.

    Raises:
        SparsifyError: It is not one.
    """
    figures: dict[str, Figure] = {}

    def placeholder(match: re.Match[str]) -> str:
        method, _, target = match["cell"].partition("@")
        share = target.removeprefix("macs")
        of_macs = target != share
        cell = cell_label(method, Target(float(share), of_macs=of_macs) if target else None)
        name = f"figure{len(figures)}_"  # the underscore keeps figure1 from matching in figure10
        figures[name] = Figure(cell, match["metric"])
        return name

    try:
        condition = ast.parse(_FIGURE.sub(placeholder, text).strip(), mode="eval").body
        kind = _kind(condition, figures, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SparsifyError(f"gate '{text}' cannot be read: {_FORM}") from error
    if kind is not bool:
        raise SparsifyError(f"gate '{text}' is a number and no condition: {_FORM}")
    return Gate(text, figures, condition)


def _kind(node: ast.expr, figures: Mapping[str, Figure], text: str) -> type:
    """`bool` for conditions, `float` for numbers; refuses everything else."""

    def all_are(kind: type, *parts: ast.expr) -> bool:
        return all(_kind(part, figures, text) is kind for part in parts)

    match node:
        case ast.BoolOp(values=values):
            for part in values:
                if not all_are(bool, part):
                    raise SparsifyError(
                        f"gate '{text}': '{_shown(part, figures)}' is a number and no condition:"
                        f" {_FORM}"
                    )
            return bool
        case ast.Compare(left=left, ops=ops, comparators=others):
            if all(type(op) in _COMPARISONS for op in ops) and all_are(float, left, *others):
                return bool
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in _ARITHMETIC and all_are(float, left, right):
                return float
        case ast.UnaryOp(op=ast.USub(), operand=operand) if all_are(float, operand):
            return float
        case ast.Constant(value=value) if type(value) in (int, float):
            return float
        case ast.Name(id=name) if name in figures:
            return float
    raise SparsifyError(f"gate '{text}': '{_shown(node, figures)}' does not belong there: {_FORM}")


def _shown(node: ast.expr, figures: Mapping[str, Figure]) -> str:
    """A part of a gate as it was given."""
    shown = ast.unparse(node)
    for name, figure in figures.items():
        shown = shown.replace(name, f"{figure.cell}.{figure.metric}")
    return shown


def _value(node: ast.expr, values: Mapping[str, float]) -> Any:
    """The value of a tree that `_kind` has accepted."""
    match node:
        case ast.BoolOp(op=op, values=parts):
            return (all if isinstance(op, ast.And) else any)(_value(p, values) for p in parts)
        case ast.Compare():
            return _compare(node, values)
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(operand=operand):
            return -_value(operand, values)
        case ast.Name(id=name):
            return values[name]
        case _:
            assert isinstance(node, ast.Constant)
            return node.value


def _compare(node: ast.Compare, values: Mapping[str, float]) -> bool:
    """A chain of comparisons; like Python, computed no further than needed."""
    number = _value(node.left, values)
    for op, part in zip(node.ops, node.comparators, strict=True):
        following = _value(part, values)
        if not _COMPARISONS[type(op)](number, following):
            return False
        number = following
    return True
