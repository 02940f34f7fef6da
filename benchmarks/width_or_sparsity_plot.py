"""The picture of sparse wide networks against dense narrow ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsify.comparison.cells import method_of
from sparsify.comparison.differences import OVERALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]

# Of the colour-blind-safe palette of Okabe and Ito; dense networks are grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
DENSE = "#555555"
STYLES = {"fp32": ("-", "o"), "fp16": (":", "^"), "int8": ("--", "s"), "int8 onnx": ("none", "D")}

Cost = tuple[str, Callable[[Row], float | None], Sequence[str]]
"""Label of an axis, the cost of a point, and the variants that are drawn over it."""

COSTS: Sequence[Cost] = (
    ("file, MB", lambda point: point["bytes"] / 1e6, ("fp32", "fp16", "int8")),
    ("multiply-adds by nonzeros, million", lambda p: p["multiply_adds"] / 1e6, ("fp32",)),
    ("latency in the fastest engine, ms", lambda p: p["median_ms"], ("fp32", "fp16", "int8 onnx")),
)
BRIEF = ("fp32", "int8")  # variants


def write_plot(points: Sequence[Row], file: Path, *, brief: bool = False) -> None:
    """Draws EER against size, work and latency: the mean of all test sets, and the first.

    Args:
        points: Of `sparsify.benchmarks.width_or_sparsity`.
        file: The picture.
        brief: Only the mean, of fewer variants, and of all networks with zeros only those of the
            first width.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency

    first = next(iter(points[0]["tests"]))
    rows: dict[str, Callable[[Row], tuple[float, float, float]]] = {
        f"EER %, mean of {len(points[0]['tests'])} conditions": _overall,
        f"EER %, {first}": lambda point: _of(point["tests"][first]),
    }
    if brief:
        width = next(p["width"] for p in points if p["target_sparsity"] is not None)
        points = [
            point
            for point in points
            if point["variant"] in BRIEF
            and (point["target_sparsity"] is None or point["width"] == width)
        ]
        rows = dict([*rows.items()][:1])
    figure = Figure((13, 1 + 3.25 * len(rows)), dpi=130, layout="constrained")
    axes = figure.subplots(len(rows), len(COSTS), sharex="col", sharey="row", squeeze=False)
    for line, (title, eer) in zip(axes, rows.items(), strict=True):
        for panel, cost in zip(line, COSTS, strict=True):
            _draw(panel, points, cost, eer)
        line[0].set_ylabel(title)
    for panel, (label, _, _) in zip(axes[-1], COSTS, strict=True):
        panel.set_xlabel(label)
    handles = {
        handle.get_label(): handle
        for panel in axes.flat
        for handle in panel.get_legend_handles_labels()[0]
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)


def _overall(point: Row) -> tuple[float, float, float]:
    figures = point[OVERALL]
    return figures["eer_percent"], figures["low"], figures["high"]


def _of(figures: Row) -> tuple[float, float, float]:
    low, high = figures["confidence"]["eer_percent"]
    return figures["eer_percent"], low, high


def _draw(
    panel: Axes, points: Sequence[Row], cost: Cost, eer: Callable[[Row], tuple[float, float, float]]
) -> None:
    _, of, variants = cost
    series: dict[tuple[str, str], list[Row]] = {}
    for point in points:
        if point["variant"] in variants and of(point) is not None:
            series.setdefault((_name(point), point["variant"]), []).append(point)
    names = list(dict.fromkeys(_name(point) for point in points))
    colours = dict(zip((n for n in names if n != "dense"), COLOURS, strict=False))
    for (name, variant), own in series.items():
        drawn = sorted(own, key=lambda point: of(point) or 0.0)
        x = [of(point) or 0.0 for point in drawn]
        figures = [eer(point) for point in drawn]
        style, marker = STYLES[variant]
        colour = colours.get(name, DENSE)
        y = [mean for mean, _, _ in figures]
        label = f"{name}, {variant}"
        panel.plot(x, y, linestyle=style, color=colour, marker=marker, markersize=5, label=label)
        if variant == "fp32":
            for place, point in zip(zip(x, y, strict=True), drawn, strict=True):
                target = point["target_sparsity"]
                text = str(point["width"]) if target is None else f"{target:.0%}"
                panel.annotate(
                    text, place, (4, 4), textcoords="offset points", fontsize=7, color=colour
                )
            panel.vlines(
                x,
                *zip(*((low, high) for _, low, high in figures), strict=True),
                color=colour,
                alpha=0.3,
                linewidth=1.2,
            )
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("")
    panel.grid(alpha=0.25, which="both", linewidth=0.5)


def _name(point: Row) -> str:
    """The series that a point is of: a method at a width, or dense networks of all widths."""
    method = str(point["method"]).removesuffix(f" {point['variant']}")
    if point["target_sparsity"] is not None:
        return method
    return method_of(point | {"method": method})
