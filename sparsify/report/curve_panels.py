"""The panels of training curves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import Target, target_of
from sparsify.comparison.curves import Curves
from sparsify.comparison.rows import Row
from sparsify.report.axes import Axis, linear_axis, log_axis, sparsity_axis, step_axis
from sparsify.report.markup import append, element
from sparsify.report.plot import Frame, Style, line, marker, method_group, polyline

_HEIGHT = 208.0


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
        "The threshold λ",
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


def drawn_targets(quantity: Quantity, rows: Sequence[Row]) -> list[Target | None]:
    """The targets of runs that have something to show, or `[None]` if those have no target."""
    shown = _shown(quantity, rows)
    return [*sorted({t for row in shown if (t := target_of(row))})] or [None] * bool(shown)


def curve_panels(
    quantity: Quantity,
    rows: Sequence[Row],
    styles: Mapping[str, Style],
    widths: Sequence[float],
) -> list[Element]:
    """A panel per target of `drawn_targets`, all with the same axes.

    Args:
        quantity: What is shown.
        rows: Of the runs.
        styles: By method.
        widths: Of the panels.
    """
    shown, targets = _shown(quantity, rows), drawn_targets(quantity, rows)
    y = quantity.axis(value for row in shown for _, value in _known(row, quantity))
    x = step_axis(max(row["steps"] for row in shown))
    panels = []
    for target, width in zip(targets, widths, strict=True):
        frame = Frame(width, _HEIGHT, 46, 12, 22, 36, x, y)
        here = [row for row in shown if target_of(row) in (None, target)]
        panel = _panel(quantity, target, here, styles, frame)
        heading = f"target {target.text}" if target is not None and len(targets) > 1 else None
        panels.append(
            element("div", element("h4", heading) if heading else None, panel, class_="cell")
        )
    return panels


def _shown(quantity: Quantity, rows: Sequence[Row]) -> list[Row]:
    """The runs that have something to show."""
    return [
        row
        for row in rows
        if _known(row, quantity) and not (quantity.sparse_only and target_of(row) is None)
    ]


def _known(row: Row, quantity: Quantity) -> list[tuple[float, float]]:
    """Steps and values, without those that the axis has no place for, such as a λ of zero."""
    curves: Curves = row["curves"]
    pairs = zip(curves.get("step", ()), curves.get(quantity.column, ()), strict=False)
    zero = quantity.axis is not log_axis
    return [(x, y) for x, y in pairs if x is not None and y is not None and (zero or y > 0)]


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
        own = [_known(row, quantity) for row in rows if row["method"] == method]
        lines = [_curve([frame.at(x, y) for x, y in each], styles[method]) for each in own]
        append(drawing, method_group(method, styles[method], *lines))
    append(drawing, element("line", class_="cursor", y1=frame.top, y2=frame.height - frame.bottom))
    return drawing


def _curve(points: Sequence[tuple[float, float]], style: Style) -> Element:
    """A line through points, or the only one of them."""
    if len(points) == 1:
        return marker(style.marker, *points[0], 4.6)
    return polyline(points, "curve", style.colour)
