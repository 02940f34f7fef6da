"""The picture of the study: the mean EER of all conditions, with its interval and its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sparsify.benchmarks.study_tables import in_order, mean_eer
from sparsify.comparison.cells import Target, label_of, target_of
from sparsify.comparison.differences import overall
from sparsify.comparison.means import by_cell
from sparsify.comparison.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the colour-blind-safe palette of Okabe and Ito; others are black, dense networks grey.
COLOURS = {
    "adabreg": "#0072B2",
    "linbreg": "#56B4E9",
    "gmp": "#D55E00",
    "rewa": "#009E73",
    "rigl": "#CC79A7",
    "dense": "#777777",
}
LATE = "-from-dense"  # ending of the names of methods that began with a dense network
_ROW = 0.235  # inches
_GAP = 1.3  # rows between two targets


class Line(NamedTuple):
    """A row of the picture.

    Attributes:
        method: Its name.
        target: That it was asked for.
        eer_percents: Mean of all conditions, of each seed.
        mean: Over seeds.
        low: Lower end of the interval over speakers.
        high: Upper end.
    """

    method: str
    target: Target | None
    eer_percents: list[float]
    mean: float
    low: float
    high: float


def lines(scratch: Results, started: Results) -> list[Line]:
    """All methods and targets, those from a dense network after those from scratch."""
    found = {}
    for results in (scratch, started):
        tests = [test["name"] for test in results["test_sets"]]
        means = overall(results["runs"], tests)
        for label, rows in by_cell(in_order(results["runs"])).items():
            if label not in found:
                own = [mean_eer(row, tests) for row in rows]
                first = rows[0]
                found[label] = Line(first["method"], target_of(first), own, *means[label_of(first)])
    return sorted(found.values(), key=lambda line: (line.target or (), line.method.endswith(LATE)))


def write_plot(scratch: Results, started: Results, file: Path) -> None:
    """Draws it.

    Args:
        scratch: Results of the trainings from scratch.
        started: Results of those from a dense network.
        file: The picture.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency

    shown = lines(scratch, started)
    targets = list(dict.fromkeys(line.target for line in shown))
    height = _ROW * (len(shown) + _GAP * len(targets)) + 0.8
    figure = Figure((8.5, height), dpi=110, layout="constrained")
    panel = figure.subplots()
    y = 0.0
    names: list[tuple[float, str]] = []
    for target in targets:
        title = "no zeros" if target is None else f"{target.text} zeros"
        panel.text(0, y, title, transform=panel.get_yaxis_transform(), weight="bold", va="center")
        for line in (each for each in shown if each.target == target):
            y += 1
            _draw(panel, line, y)
            names.append((y, line.method.replace(LATE, ", from dense")))
        y += _GAP
    panel.set_yticks([place for place, _ in names], [name for _, name in names])
    panel.tick_params(axis="y", length=0)
    panel.set_ylim(y - _GAP + 0.7, -0.8)
    panel.set_xlabel("mean EER of five conditions, %, with 95 % interval over test speakers")
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.grid(axis="x", color="0.9")
    panel.set_axisbelow(True)
    _reference(panel, shown)
    figure.savefig(file)


def _draw(panel: Axes, line: Line, y: float) -> None:
    """The interval, the mean, and a dot for each seed."""
    names = [name for name in COLOURS if line.method.startswith(name)]
    colour = COLOURS[names[0]] if names else "black"
    hollow = line.method.endswith(LATE)
    panel.plot([line.low, line.high], [y, y], color=colour, linewidth=1.2, alpha=0.5)
    panel.plot(
        line.mean, y, "D", color=colour, markersize=6, markerfacecolor="white" if hollow else colour
    )
    if len(line.eer_percents) > 1:
        panel.plot(
            line.eer_percents, [y] * len(line.eer_percents), ".", color="black", markersize=5
        )


def _reference(panel: Axes, shown: Sequence[Line]) -> None:
    """A line through the mean of dense training."""
    dense = next(line for line in shown if line.method == "dense")
    panel.axvline(dense.mean, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
