"""EER against what a model costs: is a sparse wide network better than a dense narrow one?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import label_of, method_of, target_of
from sparsify.comparison.differences import OVERALL, overall
from sparsify.comparison.means import EER_HIGH, EER_LOW
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row, fastest
from sparsify.comparison.wording import evaluation_sets, spread_text
from sparsify.report.axes import Axis, linear_axis, log_axis
from sparsify.report.document import choice, figure, grid, section, share_of
from sparsify.report.first_card import megabytes
from sparsify.report.markup import append, element
from sparsify.report.plot import Frame, Style, line, marker, method_group, polyline

_CAP = 3.5  # half the width of an interval's end


@dataclass(frozen=True)
class _Cost:
    """A horizontal axis.

    Attributes:
        title: Of its panel.
        unit: Under the axis.
        of: The cost of an entry of the means in this unit; `None` where it is not known.
        text: The cost in words.
    """

    title: str
    unit: str
    of: Callable[[Row], float | None]
    text: Callable[[float], str]


def tradeoffs_section(results: Results, styles: Mapping[str, Style]) -> Element | None:
    """EER against size, multiply-adds and latency, a panel each; `None` if all have one width."""
    if len({row.get("width") for row in results["runs"]}) < 2:
        return None
    times = _times(results["runs"])
    costs = (
        _Cost(
            "File size",
            "MB in the bitmask layout",
            lambda entry: entry["metrics"]["bitmask_bytes"]["mean"] / 1e6,
            lambda value: megabytes(1e6 * value),
        ),
        _Cost(
            "Work",
            "million multiply-adds by nonzeros, for 2 s of speech",
            _multiply_adds,
            lambda value: f"{value:.4g} million multiply-adds",
        ),
        _Cost(
            "Latency",
            "ms for 2 s of speech in the fastest engine, one thread",
            lambda entry: times.get(entry["cell"]),
            lambda value: f"{value:.2f} ms",
        ),
    )
    means, sets = results["means"], evaluation_sets(results)
    if len(results["test_sets"]) > 1:
        means, sets = _with_overall(results), {f"{OVERALL}.eer_percent": OVERALL} | sets
    charts = {}
    for metric, title in sets.items():
        known = {cost: found for cost in costs if (found := _known(cost, metric, means))}
        width = share_of(max(len(known), 2))
        panels = [_panel(cost, metric, each, styles, width) for cost, each in known.items()]
        charts[title] = grid(panels, len(panels))
    return section(
        "Width or sparsity",
        figure(
            "EER against cost",
            "Lower and further left is better. A line joins the targets of a method at one width,"
            " or the widths of a method without a target. Bars are 95% intervals over test"
            " speakers, averaged over seeds; models share the speakers, so that of two models the"
            " difference is known better than either.",
            *choice("Test set", charts),
        ),
    )


def _with_overall(results: Results) -> list[Row]:
    """The means, with the mean over all test sets as a metric where it is known."""
    known = overall(results["runs"], [test["name"] for test in results["test_sets"]])
    names = [f"{OVERALL}.{metric}" for metric in ("eer_percent", EER_LOW, EER_HIGH)]

    def spreads(cell: str) -> dict[str, dict[str, float]]:
        figures = zip(names, known.get(cell, ()), strict=False)
        return {name: {"mean": value, "min": value, "max": value} for name, value in figures}

    return [
        entry | {"metrics": entry["metrics"] | spreads(entry["cell"])} for entry in results["means"]
    ]


def _known(cost: _Cost, metric: str, means: Sequence[Row]) -> list[tuple[float, Row]]:
    """Those of which both cost and EER are known, with the cost."""
    return [
        (value, entry)
        for entry in means
        if metric in entry["metrics"] and (value := cost.of(entry)) is not None
    ]


def _panel(
    cost: _Cost,
    metric: str,
    known: Sequence[tuple[float, Row]],
    styles: Mapping[str, Style],
    width: float,
) -> Element:
    ends = [end for _, entry in known for end in _interval(entry, metric)]
    x_axis: Axis = log_axis(value for value, _ in known)
    frame = Frame(width, 320, 40, 16, 26, 44, x_axis, linear_axis(ends))
    drawing = frame.draw(f"EER against {cost.title.lower()}", cost.unit, "EER %")
    lines: dict[str, list[tuple[float, Row]]] = {}
    for value, entry in known:
        name = method_of(entry) if target_of(entry) is None else entry["method"]
        lines.setdefault(name, []).append((value, entry))
    for own in lines.values():
        points = sorted(own, key=lambda point: point[0])
        style = styles[points[0][1]["method"]]
        path = [frame.at(value, _eer(entry, metric)) for value, entry in points]
        drawn = [polyline(path, "mean", style.colour)] if len(path) > 1 else []
        for value, entry in points:
            drawn += _point(frame, cost, metric, value, entry, styles[entry["method"]])
        append(drawing, method_group(points[0][1]["method"], style, *drawn))
    return element("div", element("h4", cost.title), drawing, class_="cell")


def _point(
    frame: Frame, cost: _Cost, metric: str, value: float, entry: Row, style: Style
) -> list[Element]:
    x, y = frame.at(value, _eer(entry, metric))
    low, high = (frame.at_y(end) for end in _interval(entry, metric))
    bar = [line(x, low, x, high, "bar")]
    bar += [line(x - _CAP, end, x + _CAP, end, "bar") for end in (low, high)]
    tip = (
        f"{entry['cell']}\nEER {spread_text(entry['metrics'][metric], '.2f')}%\n{cost.text(value)}"
    )
    return [*bar, marker(style.marker, x, y, 5.2, tip)]


def _eer(entry: Row, metric: str) -> float:
    return float(entry["metrics"][metric]["mean"])


def _interval(entry: Mapping[str, Any], metric: str) -> tuple[float, float]:
    """Over speakers if that is known, else over seeds."""
    metrics, test = entry["metrics"], metric.rpartition(".")[0]
    ends = [metrics.get(f"{test}.{end}") for end in (EER_LOW, EER_HIGH)]
    if all(ends):
        return ends[0]["mean"], ends[1]["mean"]
    return metrics[metric]["min"], metrics[metric]["max"]


def _multiply_adds(entry: Row) -> float | None:
    metrics = entry["metrics"]
    if "multiply_adds" not in metrics:
        return None
    kept = 1 - metrics["mac_sparsity"]["mean"]
    return float(metrics["multiply_adds"]["mean"] * kept / 1e6)


def _times(rows: Sequence[Row]) -> dict[str, float]:
    """Milliseconds in the fastest engine, by cell, where they were measured."""
    return {label_of(row): each["median_ms"] for row in rows if (each := fastest(row)) is not None}
