"""Differences between methods in EER, with their intervals, against one of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import target_of
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row
from sparsify.comparison.wording import (
    compared,
    difference_text,
    is_clear,
    left_out,
    references,
    signed,
)
from sparsify.report.axes import Axis, linear_axis
from sparsify.report.document import choice, figure, grid, section
from sparsify.report.markup import append, element
from sparsify.report.plot import Style, label, line, marker, method_group, natural, room_for, svg

_NAMES, _PLOT, _VALUES = 128.0, 290.0, 128.0  # the first and the last at least
_TOP, _HEAD, _ROW = 18.0, 24.0, 20.0
_CAP = 3.0  # half the height of an interval's end


def differences_section(results: Results, styles: Mapping[str, Style]) -> Element | None:
    """A chart per test set, against each method that others can be compared with."""
    tests = list(dict.fromkeys(row["test"] for row in results["differences"]))
    charts = {}
    for against in references(results):
        own = [by_test for _, _, by_test in compared(results, against)]
        ends = (row[end] for each in own for row in each.values() for end in ("low", "high"))
        axis = linear_axis([0.0, *ends])
        panels = [
            element(
                "div",
                element("h4", test),
                _chart(
                    f"EER compared with {against}, {test}",
                    [by_test[test] for by_test in own if test in by_test],
                    styles,
                    axis,
                ),
                class_="cell",
            )
            for test in tests
        ]
        charts[f"against {against}"] = grid(panels, 2)
    if not charts:
        return None
    return section(
        "Differences",
        figure(
            "Difference in EER",
            "In points, with 95% intervals over test speakers and seeds that are drawn for both"
            " methods alike, of the seeds that both have; left of the line is better. Filled"
            " markers: the interval leaves out zero. With one seed it does not know what another"
            " training would give."
            f" {left_out(results) or ''}",
            *choice("Compared with", charts),
        ),
    )


def _chart(title: str, entries: Sequence[Row], styles: Mapping[str, Style], axis: Axis) -> Element:
    """A line per method, under a heading if it has a target."""
    targets = dict.fromkeys(target_of(row) for row in entries)
    groups = {target: [r for r in entries if target_of(r) == target] for target in targets}
    headings = len(groups.keys() - {None})
    bottom = _TOP + _HEAD * headings + _ROW * len(entries) + 4
    left = room_for((row["method"] for row in entries), _NAMES)
    right = room_for((difference_text(row) for row in entries), _VALUES)
    drawing = svg(left + _PLOT + right, bottom + 16, title)

    def at(value: float) -> float:
        return left + axis.share(value) * _PLOT

    for value, text in axis.ticks:
        kind = "target" if value == 0 else "grid"
        append(drawing, line(at(value), _TOP, at(value), bottom, kind))
        append(drawing, label(text, at(value), bottom + 9, "tick", "middle"))
    append(drawing, label("points of EER", left + _PLOT, 6, "title", "end"))
    y = _TOP
    for target, group in sorted(groups.items(), key=lambda item: item[0] or ()):
        if target is not None:
            append(drawing, label(target.text, 2, y + _HEAD / 2 + 2, "head", "start"))
            y += _HEAD
        for row in group:
            append(drawing, _line(row, y + _ROW / 2, left, at, styles[row["method"]]))
            y += _ROW
    return natural(drawing)


def _line(row: Row, y: float, left: float, at: Callable[[float], float], style: Style) -> Element:
    low, high = at(row["low"]), at(row["high"])
    text = difference_text(row)
    tip = f"{row['method']} minus {row['against']}\n{text} points"
    if row["by_seed"]:
        tip += "\n" + ", ".join(
            f"seed {seed}: {signed(gap)}"
            for seed, gap in zip(row["seeds"], row["by_seed"], strict=True)
        )
    dot = marker(style.marker, at(row["eer_percent"]), y, 4.6, tip)
    if not is_clear(row):
        dot.set("class", "marker hollow")
    return method_group(
        row["method"],
        style,
        label(row["method"], left - 10, y, "layer", "end"),
        line(low, y, high, y, "bar"),
        *(line(end, y - _CAP, end, y + _CAP, "bar") for end in (low, high)),
        dot,
        label(text, left + _PLOT + 10, y, "tick", "start"),
    )
