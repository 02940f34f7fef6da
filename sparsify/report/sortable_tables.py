"""The sortable tables of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import target_of, target_text
from sparsify.comparison.differences import REFERENCE
from sparsify.comparison.means import metrics_of
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row
from sparsify.comparison.wording import INTERVALS, evaluation_sets, interval_text, marked
from sparsify.report.first_card import megabytes
from sparsify.report.highlights import duration
from sparsify.report.markup import Child, element
from sparsify.report.plot import Style, swatch

_FILE = "File is the size in the bitmask layout: the nonzeros and one bit per weight."

TableCell = tuple[float | str, Child]
"""What a cell is sorted by, and what it shows."""


def means_table(results: Results, styles: Mapping[str, Style]) -> list[Element]:
    """A line per method and target, with the mean and the range over seeds; and a note."""
    sets = evaluation_sets(results)
    means = results["means"]
    dense = next((entry for entry in means if entry["method"] == REFERENCE), None)
    heads = ["Method", "Target", "Sparsity", *(f"EER {title} %" for title in sets.values())]
    if dense is not None and len(means) > 1:
        heads.append("vs dense")
    heads += ["minDCF", "Nonzero", "File", "Training", "Seeds"]
    lines = table(heads, [_means_line(entry, sets, dense, means, styles) for entry in means])
    known = any(interval_text(entry["metrics"], name) for entry in means for name in sets)
    about = f"{INTERVALS} {_FILE}" if known else _FILE
    return [lines, element("p", about, class_="about")]


def runs_table(results: Results, styles: Mapping[str, Style]) -> Element:
    """A line per run."""
    sets = evaluation_sets(results)
    heads = ["Method", "Target", "Seed", "Sparsity", *(f"EER {t} %" for t in sets.values())]
    heads += ["minDCF", "Nonzero", "Selected step", "Training"]
    lines = []
    for row in results["runs"]:
        metrics = metrics_of(row)
        cells: list[TableCell] = [
            _method(row, styles),
            _target(row),
            (row["seed"], str(row["seed"])),
            (row["sparsity"], f"{row['sparsity']:.3%}"),
            *(
                (metrics[name], f"{metrics[name]:.3f}") if name in metrics else (1e9, "–")
                for name in sets
            ),
            (row["min_dcf"], f"{row['min_dcf']:.4f}"),
            (row["nonzero"], f"{row['nonzero']:,}"),
            (row["selected_step"], _selected(row)),
            (row["seconds"], duration(row["seconds"])),
        ]
        lines.append((row["method"], cells))
    return table(heads, lines)


def _means_line(
    entry: Row,
    sets: Mapping[str, str],
    dense: Row | None,
    means: Sequence[Row],
    styles: Mapping[str, Style],
) -> tuple[str, list[TableCell]]:
    metrics = entry["metrics"]

    def mean(name: str) -> float:
        return float(metrics[name]["mean"])

    cells: list[TableCell] = [
        _method(entry, styles),
        _target(entry),
        (mean("sparsity"), f"{mean('sparsity'):.3%}"),
        *(_spread(metrics.get(name), ".2f", interval_text(metrics, name)) for name in sets),
    ]
    if dense is not None and len(means) > 1:
        gap = mean("eer_percent") - dense["metrics"]["eer_percent"]["mean"]
        cells.append((gap, "–" if entry is dense else f"{gap:+.2f}".replace("-", "−")))
    cells += [
        _spread(metrics["min_dcf"], ".3f"),
        (mean("nonzero"), f"{mean('nonzero'):,.0f}"),
        _sizes(*(mean(f"{kind}bytes") for kind in ("bitmask_", "", "zipped_"))),
        (mean("seconds"), duration(mean("seconds"))),
        (len(entry["seeds"]), str(len(entry["seeds"]))),
    ]
    return entry["method"], cells


def _sizes(bitmask: float, raw: float, zipped: float) -> TableCell:
    """The size in the bitmask layout, with what the plain file is and becomes when it is zipped."""
    small = [
        element("small", f"{megabytes(size)} {what}")
        for size, what in ((raw, "raw"), (zipped, "zipped"))
    ]
    return bitmask, [element("span", megabytes(bitmask)), *small]


def _selected(row: Row) -> str:
    averaged = row["averaged_steps"]
    if averaged is None:
        return f"{row['selected_step']:,}"
    return f"mean of {', '.join(f'{step:,}' for step in averaged)}"


def _method(row: Row, styles: Mapping[str, Style]) -> TableCell:
    method = row["method"]
    return method, [swatch(styles[method]), element("span", marked(row))]


def _target(row: Row) -> TableCell:
    target = target_of(row)
    return (target.share if target else 0.0, target_text(row))


def _spread(figures: Mapping[str, float] | None, form: str, interval: str = "") -> TableCell:
    if figures is None:
        return 1e9, "–"
    texts = [interval] if interval else []
    if figures["min"] < figures["max"]:
        texts.insert(0, f"{figures['min']:{form}}–{figures['max']:{form}}")
    small = [element("small", text) for text in texts]
    return figures["mean"], [element("span", f"{figures['mean']:{form}}"), *small]


def table(heads: Sequence[str], lines: Sequence[tuple[str, Sequence[TableCell]]]) -> Element:
    """A table that sorts by the heading that is clicked.

    Args:
        heads: Headings of the columns.
        lines: The method that each belongs to, and its cells.
    """
    head = [element("th", element("button", name, type="button"), scope="col") for name in heads]
    body = [
        element(
            "tr",
            [element("td", shown, data_value=str(key)) for key, shown in cells],
            data_method=method,
        )
        for method, cells in lines
    ]
    whole = element("table", element("thead", element("tr", head)), element("tbody", body))
    return element("div", whole, class_="scroll")
