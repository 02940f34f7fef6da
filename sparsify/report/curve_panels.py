"""The panels of training curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import Target, target_of
from sparsify.comparison.curves import Curves
from sparsify.comparison.rows import Row
from sparsify.report.axes import Axis, linear_axis, log_axis, sparsity_axis, step_axis
from sparsify.report.markup import append, element
from sparsify.report.plot import Frame, Style, line, method_group, polyline

_WIDTH, _HEIGHT = 320.0, 208.0


@dataclass(frozen=True)
class Quantity:
    """A column of the metrics, and how it is shown.

    Attributes:
        column: Name in `metrics.jsonl`.
        title: Heads the figure.
        about: What a reader should know of it.
        unit: At the axis.
        axis: Makes the axis.
        sparse_only: Whether it says nothing about a dense model.
    """

    column: str
    title: str
    about: str
    unit: str
    axis: Callable[[Iterable[float]], Axis]
    sparse_only: bool = False


QUANTITIES = (
    Quantity(
        "sparsity",
        "Sparsity",
        "Equal distances are equal factors in the number of weights left; dashed is the target.",
        "% zeros",
        sparsity_axis,
        sparse_only=True,
    ),
    Quantity(
        "macs",
        "Multiply-adds left",
        "Share of those of the dense network; logarithmic; dashed is the target.",
        "share",
        log_axis,
        sparse_only=True,
    ),
    Quantity(
        "lambda",
        "Regularisation weight λ",
        "Of the methods that have one; logarithmic.",
        "λ",
        log_axis,
    ),
    Quantity(
        "eer_percent", "EER on validation speakers", "Clean speech; logarithmic.", "%", log_axis
    ),
    Quantity(
        "corrupted_eer_percent",
        "EER on corrupted validation speech",
        "The same trials, equalised and in noise; logarithmic.",
        "%",
        log_axis,
    ),
    Quantity(
        "weight_norm",
        "Norm of the prunable weights",
        "ℓ2 norm over all prunable weights.",
        "‖w‖",
        linear_axis,
    ),
    Quantity(
        "gradient_norm",
        "Norm of the gradient",
        "Before clipping, of all that is trained; logarithmic.",
        "‖∇‖",
        log_axis,
    ),
    Quantity("loss", "Training loss", "It rises where the margin does.", "loss", linear_axis),
)


def curve_panels(
    quantity: Quantity,
    rows: Sequence[Row],
    styles: Mapping[str, Style],
) -> list[Element]:
    """A panel per target, all with the same axes; empty if no run knows the quantity.

    Args:
        quantity: What is shown.
        rows: Of the runs.
        styles: By method.
    """
    shown = [row for row in rows if quantity.column in row["curves"]]
    if quantity.sparse_only:
        shown = [row for row in shown if target_of(row) is not None]
    if not shown:
        return []
    values = [v for row in shown for v in row["curves"][quantity.column] if v is not None]
    last = max(row["steps"] for row in shown)
    x, y = step_axis(last), quantity.axis(values)
    targets: list[Target | None] = [*sorted({t for row in shown if (t := target_of(row))})]
    panels = []
    for target in targets or [None]:
        frame = Frame(_WIDTH, _HEIGHT, 46, 12, 22, 36, x, y)
        here = [row for row in shown if target_of(row) in (None, target)]
        panels.append(_panel(quantity, target, here, styles, frame))
    return panels


def _panel(
    quantity: Quantity,
    target: Target | None,
    rows: Sequence[Row],
    styles: Mapping[str, Style],
    frame: Frame,
) -> Element:
    title = "" if target is None else target.text
    drawing = frame.draw(
        f"{quantity.title} over training{title and f', target {title}'}",
        "step",
        quantity.unit,
        class_="panel",
        data_quantity=quantity.column,
        data_runs=json.dumps([row["run"] for row in rows]),
        data_left=frame.left,
        data_right=frame.width - frame.right,
        data_last=frame.x.high,
    )
    if target is not None and quantity.column == ("macs" if target.of_macs else "sparsity"):
        y = frame.at_y(target.share)
        append(drawing, line(frame.left, y, frame.width - frame.right, y, "target"))
    methods = dict.fromkeys(row["method"] for row in rows)
    for method in sorted(methods, key=lambda each: each != "dense"):  # the reference lies below
        lines = [
            polyline(points, "curve", styles[method].colour)
            for row in rows
            if row["method"] == method
            for points in [_points(row["curves"], quantity.column, frame)]
            if points
        ]
        append(drawing, method_group(method, styles[method], *lines))
    append(drawing, element("line", class_="cursor", y1=frame.top, y2=frame.height - frame.bottom))
    return element(
        "div", element("h4", f"target {title}") if title else None, drawing, class_="cell"
    )


def _points(curve: Curves, column: str, frame: Frame) -> list[tuple[float, float]]:
    pairs = zip(curve["step"], curve[column], strict=True)
    known = ((x, y) for x, y in pairs if x is not None and y is not None)
    # A logarithmic axis has no place for zero, such as λ after a landing.
    return [frame.at(x, y) for x, y in known if math.isfinite(frame.y.transform(y))]
