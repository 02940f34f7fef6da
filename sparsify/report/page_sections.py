"""The sections of a report: training, layers, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import label_of, target_of
from sparsify.comparison.rows import CONTEXT, Row
from sparsify.report.costs import Bar, cost_bars
from sparsify.report.curve_panels import QUANTITIES, curve_panels, drawn_targets
from sparsify.report.document import choice, figure, grid, per_row, section, share_of
from sparsify.report.first_card import megabytes
from sparsify.report.highlights import duration
from sparsify.report.layer_charts import heat_legend, layer_bars, layer_heatmap
from sparsify.report.markup import element
from sparsify.report.plot import Style
from sparsify.report.sortable_tables import table

_FIGURES, _PANELS = 3, 4  # in a row, at most


def training_section(rows: Sequence[Row], styles: Mapping[str, Style]) -> Element | None:
    """Curves over training, a figure per quantity and a panel per target, if there are any."""
    panels = {each: len(drawn_targets(each, rows)) for each in QUANTITIES}
    drawn = [quantity for quantity, count in panels.items() if count]
    if not drawn:
        return None
    few = max(panels.values()) < 2
    beside = per_row(len(drawn), _FIGURES)
    figures = []
    for number, quantity in enumerate(drawn):
        counts = per_row(panels[quantity], _PANELS)
        widths = [share_of(beside[number])] if few else [share_of(count) for count in counts]
        content = grid(curve_panels(quantity, rows, styles, widths), counts[0])
        figures.append(figure(quantity.title, quantity.about, content))
    return section("Training", grid(figures, beside[0]) if few else figures)


def layers_section(rows: Sequence[Row], styles: Mapping[str, Style]) -> Element | None:
    """Where the zeros of the sparse models are; `None` if no layers can be compared."""
    sparse = [row for row in rows if target_of(row) is not None]
    names = [[layer["name"] for layer in row["layers"]] for row in rows]
    if not sparse or not names[0] or any(each != names[0] for each in names):
        return None  # models of several architectures have no layers in common
    heat = None
    if len({label_of(row) for row in rows}) > 1:
        heat = figure(
            "Layer-wise sparsity",
            "Share of each layer's weights that is left, mean over seeds, on a logarithmic scale:"
            " darker is sparser, and 0 is a layer without a weight.",
            heat_legend(),
            layer_heatmap(sparse),
        )
    targets = sorted({target for row in sparse if (target := target_of(row))})
    charts = {
        target.text: layer_bars([row for row in sparse if target_of(row) == target], styles)
        for target in targets
    }
    bars = figure(
        "Weights left, layer by layer",
        "Share of each layer's weights that are not zero, mean over seeds.",
        *choice("Target", charts),
    )
    return section("Layers", heat, bars)


def costs_section(
    means: Sequence[Row], rows: Sequence[Row], styles: Mapping[str, Style]
) -> Element:
    """File sizes, training time and, where it was measured, latency."""

    def of(entry: Row, metric: str) -> float:
        return float(entry["metrics"][metric]["mean"])

    def time_bar(entry: Row) -> list[Bar]:
        return [("bar-fill", of(entry, "seconds"), duration(of(entry, "seconds")))]

    def size_bars(entry: Row) -> list[Bar]:
        return [
            (kind, of(entry, name), f"{megabytes(of(entry, name))} {what}")
            for kind, name, what in (
                ("bar-pale", "bytes", "raw"),
                ("bar-soft", "zipped_bytes", "zipped"),
                ("bar-fill", "bitmask_bytes", "bitmask"),
            )
        ]

    figures = [
        figure(
            "File size",
            "The model file with exact zeros as it is and zipped, and in the bitmask layout"
            " (the nonzeros and one bit per weight).",
            cost_bars("File size", means, size_bars, styles),
        ),
        figure(
            "Training time",
            "Wall clock per run, mean over seeds; runs beside one another share the machine.",
            cost_bars("Training time", means, time_bar, styles),
        ),
    ]
    figures += _latency(rows, styles)
    return section("Cost", grid(figures, 2))


def tuning_section(tuned: Sequence[Row]) -> Element | None:
    """What was chosen for the methods before the comparison, and from what."""
    if not tuned:
        return None
    lines = []
    for row in tuned:
        for each in row["tried"]:
            rate = each.get("error_rate")
            lines.append(
                (
                    row["method"],
                    [
                        (row["method"], row["method"]),
                        (row["option"], row["option"]),
                        (each["value"], str(each["value"])),
                        (float("inf"), "failed") if rate is None else (rate, f"{rate:.2f}"),
                        *([(1, "chosen")] if each["value"] == row["chosen"] else [(0, "")]),
                    ],
                )
            )
    heads = ["Method", "Option", "Value", "Validation EER %", "Chosen"]
    first = tuned[0]
    return section(
        "Tuning",
        element(
            "p",
            "Before the comparison, every method listed was trained once with each value, with seed"
            f" {first['seed']}. The mean of clean and corrupted EER on validation speakers chose;"
            " no test set was looked at.",
            class_="about",
        ),
        table(heads, lines),
    )


def _latency(rows: Sequence[Row], styles: Mapping[str, Style]) -> list[Element]:
    measured: dict[str, Row] = {}
    for row in rows:
        if row["latency"]:
            cell = label_of(row)
            measured.setdefault(cell, row | {"cell": cell})
    kinds: dict[tuple[str, int], list[Row]] = {}
    for entry in measured.values():
        cpu = entry["latency"]["machine"]["cpu"]
        lines = [line for line in entry["latency"]["rows"] if line["engine"] != CONTEXT]
        for threads in sorted({line["threads"] for line in lines}):
            kinds.setdefault((cpu, threads), []).append(entry)
    figures = []
    for (cpu, threads), entries in kinds.items():

        def bars(entry: Row, threads: int = threads) -> list[Bar]:
            return [
                (
                    "bar-pale" if line["artifact"] == "dense" else "bar-fill",
                    line["median_ms"],
                    f"{line['median_ms']:.2f} ms {line['engine']}, {line['artifact']}",
                )
                for line in entry["latency"]["rows"]
                if line["threads"] == threads and line["engine"] != CONTEXT
            ]

        about = f"Median of 2 s of speech on {cpu}; dense is the same without zeros."
        title = f"Latency, {threads} thread{'s' if threads > 1 else ''}"
        figures.append(figure(title, about, cost_bars(title, entries, bars, styles)))
    return figures
