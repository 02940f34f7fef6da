"""How the study of the λ rules is shown: a table and three figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sparsify.comparison.wording import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, Any]

# Of the colour-blind-safe palette of Okabe and Ito.
COLOURS = {
    "adaptive": "#0072B2",
    "default": "#D55E00",
    "smoothed": "#009E73",
    "quantile": "#D55E00",
    "keep_dual": "#0072B2",
    "keep_weights": "#CC79A7",
    "rescale": "#E69F00",
    "given_lambda": "#56B4E9",
}
LABELS = {
    "lambda": "λ",
    "weight_norm": "‖w‖₂",
    "sparsity": "sparsity − target (points)",
}


def markdown(rows: Iterable[Row]) -> str:
    """The table: a line per study, method, rule and target; means over seeds and their range."""
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = tuple(row[field] for field in ("study", "method", "rule", "target"))
        grouped.setdefault(key, []).append(row)
    columns = {
        "delivered": ("delivered_sparsity", ".3%"),
        "final error": ("final_error_points", "+z.3f"),
        "settled at": ("settled_at", ".2f"),
        "overshoot": ("overshoot_points", ".2f"),
        "oscillation": ("oscillation_points", ".3f"),
        "λ final": ("lambda_final", ".3g"),
        "λ max": ("lambda_max", ".3g"),
        "‖w‖": ("weight_norm_final", ".3g"),
        "EER validation %": ("validation_eer_percent", ".2f"),
        "EER clean %": ("test_eer_percent", ".2f"),
        "EER noisy %": ("test_noisy_eer_percent", ".2f"),
    }
    lines = [
        f"| study | method | rule | target | {' | '.join(columns)} | runs | diverged |",
        f"|---|---|---|--:|{'--:|' * (len(columns) + 2)}",
    ]
    for (study, method, rule, target), group in sorted(grouped.items()):
        cells = [study, method, rule, f"{target:.0%}"]
        cells += [_cell([row.get(key) for row in group], form) for key, form in columns.values()]
        cells += [str(len(group)), str(sum(row["diverged"] for row in group))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    text = spread(known, form)
    return text if len(known) == len(values) else f"{text} in {len(known)} of {len(values)}"


def write_plots(rows: Sequence[Row], folder: Path) -> None:
    """Writes figures of the studies that there are rows of.

    Args:
        rows: Results of the study.
        folder: Where `sparsity.png`, `lambda.png`, `default.png` and `ablations.png` go; made if it
            is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    default = [row for row in rows if row["study"] == "default"]
    if default:
        _over_targets(default, "sparsity").savefig(folder / "default.png")
    rules = [row for row in rows if row["study"] == "rules"]
    if rules:
        for column in ("sparsity", "lambda"):
            _over_targets(rules, column).savefig(folder / f"{column}.png")
    ablations = [row for row in rows if row["study"] == "ablations"]
    if ablations:
        shown = {row["target"] for row in ablations}
        reference = [
            row | {"rule": "keep_dual"}
            for row in rules
            if row["rule"] == "adaptive" and row["target"] in shown
        ]
        _ablations(reference + ablations).savefig(folder / "ablations.png")


def _over_targets(rows: Sequence[Row], column: str) -> Figure:
    """A row of panels per method, a column per target, a line per rule and seed."""
    methods = sorted({row["method"] for row in rows})
    targets = sorted({row["target"] for row in rows})
    figure, axes = _grid(len(methods), len(targets))
    for i, method in enumerate(methods):
        for j, target in enumerate(targets):
            here = [r for r in rows if (r["method"], r["target"]) == (method, target)]
            _lines(axes[i, j], here, column)
            axes[0, j].set_title(f"target {target:.0%}")
        axes[i, 0].set_ylabel(f"{method}\n{LABELS[column]}")
    return _finished(figure, axes)


def _ablations(rows: Sequence[Row]) -> Figure:
    """A row of panels per method, a column per quantity, a line per ablation and seed."""
    methods = sorted({row["method"] for row in rows})
    figure, axes = _grid(len(methods), len(LABELS), sharey="none")
    for i, method in enumerate(methods):
        for j, (column, label) in enumerate(LABELS.items()):
            _lines(axes[i, j], [row for row in rows if row["method"] == method], column)
            axes[0, j].set_title(label)
        axes[i, 0].set_ylabel(method)
    return _finished(figure, axes)


def _lines(axis: Axes, rows: Sequence[Row], column: str) -> None:
    """Trajectories; the sparsity as its distance from the target, so that targets compare."""
    for row in rows:
        values = row[column]
        if column == "sparsity":
            values = [100 * (value - row["target"]) for value in values]
        axis.plot(
            row["steps"], values, color=COLOURS[row["rule"]], label=row["rule"], linewidth=1.2
        )
    if column == "sparsity":
        axis.axhline(0, color="black", linewidth=0.6, zorder=0)
        # Linear where rules differ, logarithmic where they have yet to come.
        axis.set_yscale("symlog", linthresh=1, linscale=2)
        ticks = [-10, -1, -0.5, 0, 0.5, 1, 10]
        axis.set_yticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
        axis.set_ylim(-30, 30)
    else:
        axis.set_yscale("log")
        axis.margins(y=0)


def _grid(rows: int, columns: int, sharey: Literal["row", "none"] = "row") -> tuple[Figure, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency

    figure = Figure((12, 2.7 * rows + 0.6), dpi=100, layout="constrained")
    return figure, figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False)


def _finished(figure: Figure, axes: Any) -> Figure:
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="0.9")
        if axis.get_yscale() == "log":  # whole decades, so that there are ticks to read it by
            low, high = np.log10(axis.get_ylim())
            axis.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
    for axis in axes[-1]:
        axis.set_xlabel("step")
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        lines, labels = axis.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    figure.legend(handles.values(), handles, loc="outside upper right", ncols=4, frameon=False)
    return figure
