"""EER against sparsity: a panel per evaluation set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import target_of
from sparsify.comparison.means import metrics_of
from sparsify.comparison.rows import Row
from sparsify.comparison.wording import spread_text
from sparsify.report.axes import linear_axis, log_axis, sparsity_axis
from sparsify.report.markup import append, element
from sparsify.report.plot import (
    Frame,
    Style,
    label,
    line,
    marker,
    method_group,
    polyline,
    rectangle,
    room_for,
    spread,
)

_DODGE = 7.0  # between methods at the same target, at most
_CROWD = 0.6  # share of the room between two targets that the methods at one may take
_WIDE = 4.0  # ratio of largest to smallest EER from which the axis is logarithmic
_CAP = 3.5  # half the width of a seed bar's end
_LEADER, _LINE = 12.0, 14.0  # from the line of a reference to its name, and between two names


def spans_widely(metric: str, means: Sequence[Row]) -> bool:
    """Whether differences of good models would vanish beside bad ones on a linear axis."""
    bounds = _bounds(metric, means)
    return bool(bounds) and max(bounds) > _WIDE * min(bounds) > 0


def accuracy_panel(
    metric: str,
    title: str,
    means: Sequence[Row],
    runs: Sequence[Row],
    styles: Mapping[str, Style],
    *,
    logarithmic: bool = False,
    width: float = 560,
) -> Element:
    """Mean EER of each method at the sparsities it reached, its seed bars, and every single run.

    Args:
        metric: Which EER.
        title: The evaluation set.
        means: One entry per method and target.
        runs: One row per run.
        styles: By method.
        logarithmic: Use a logarithmic axis.
        width: Of the drawing.
    """
    known = [entry for entry in means if metric in entry["metrics"]]
    bounds = _bounds(metric, means)
    sparse = [entry for entry in known if target_of(entry) is not None]
    y_axis = log_axis(bounds) if logarithmic else linear_axis(bounds)
    reached = [_sparsity(entry) for entry in sparse]
    targets = [entry["target_sparsity"] or _sparsity(entry) for entry in sparse]
    dense = [entry for entry in known if target_of(entry) is None]
    names = [_reference_name(entry, metric) for entry in dense]
    right = _LEADER + room_for(names, 0) if names else 26
    frame = Frame(width, 350, 46, right, 26, 44, sparsity_axis(reached, {*targets}), y_axis)
    unit = "EER %, logarithmic" if logarithmic else "EER %"
    drawing = frame.draw(f"EER against sparsity, {title}", "sparsity %", unit)
    lines = [frame.at_y(entry["metrics"][metric]["mean"]) for entry in dense]
    places = spread(lines, _LINE, frame.top, frame.height - frame.bottom)
    for entry, name, place in zip(dense, names, places, strict=True):
        append(drawing, _reference(entry, name, place, metric, frame, styles))
    methods = list(dict.fromkeys(entry["method"] for entry in sparse))
    columns = sorted(frame.at_x(target) for target in {*targets})
    room = min((right - left for left, right in pairwise(columns)), default=frame.width)
    dodge = min(_DODGE, _CROWD * room / max(len(methods), 1))
    for number, method in enumerate(methods):
        shift = dodge * (number - (len(methods) - 1) / 2)
        own = sorted(
            (entry for entry in sparse if entry["method"] == method),
            key=_sparsity,
        )
        parts = _line(own, metric, frame, shift, styles[method])
        parts += [
            element(
                "circle",
                cx=frame.at_x(run["sparsity"]) + shift,
                cy=frame.at_y(metrics_of(run)[metric]),
                r=2,
                class_="seed",
            )
            for run in runs
            if run["method"] == method and metric in metrics_of(run)
        ]
        parts += [_mean(entry, metric, frame, shift, styles[method]) for entry in own]
        append(drawing, method_group(method, styles[method], *parts))
    return element("div", element("h4", title), drawing, class_="cell")


def _sparsity(entry: Row) -> float:
    """What was reached, mean over seeds."""
    return float(entry["metrics"]["sparsity"]["mean"])


def _bounds(metric: str, means: Sequence[Row]) -> list[float]:
    figures = [entry["metrics"][metric] for entry in means if metric in entry["metrics"]]
    return [each[end] for each in figures for end in ("min", "max")]


def _reference_name(entry: Mapping[str, Any], metric: str) -> str:
    return f"{entry['method']} {entry['metrics'][metric]['mean']:.2f}"


def _reference(
    entry: Mapping[str, Any],
    name: str,
    place: float,
    metric: str,
    frame: Frame,
    styles: Mapping[str, Style],
) -> Element:
    """The dense model: a line across, in the band of its seeds, and its name beside it."""
    figures = entry["metrics"][metric]
    right = frame.width - frame.right
    top, y, bottom = (frame.at_y(figures[key]) for key in ("max", "mean", "min"))
    tip = f"{entry['method']}\nEER {spread_text(figures, '.2f')}%"
    band = rectangle(frame.left, top, right - frame.left, max(bottom - top, 3.0), "band", tip)
    return method_group(
        entry["method"],
        styles[entry["method"]],
        band,
        line(frame.left, y, right, y, "reference"),
        line(right, y, right + _LEADER, place, "reference"),
        label(name, right + _LEADER + 4, place, "note", "start"),
    )


def _line(
    entries: Sequence[Row], metric: str, frame: Frame, shift: float, style: Style
) -> list[Element]:
    parts, points = [], []
    for entry in entries:
        figures = entry["metrics"][metric]
        x = frame.at_x(entry["metrics"]["sparsity"]["mean"]) + shift
        points.append((x, frame.at_y(figures["mean"])))
        if figures["min"] < figures["max"]:
            low, high = frame.at_y(figures["min"]), frame.at_y(figures["max"])
            parts.append(line(x, low, x, high, "bar"))
            parts += [line(x - _CAP, end, x + _CAP, end, "bar") for end in (low, high)]
    return [polyline(points, "mean", style.colour), *parts] if len(points) > 1 else parts


def _mean(entry: Row, metric: str, frame: Frame, shift: float, style: Style) -> Element:
    figures, sparsity = entry["metrics"][metric], entry["metrics"]["sparsity"]["mean"]
    count = len(entry["seeds"])
    tip = (
        f"{entry['method']} at {sparsity:.2%}\nEER {spread_text(figures, '.2f')}%"
        f"\n{count} seed{'s' if count > 1 else ''}"
    )
    x, y = frame.at(sparsity, figures["mean"])
    return marker(style.marker, x + shift, y, 5.2, tip)
