"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from xml.etree.ElementTree import Element

import yaml

from sparsify.comparison.plan import label
from sparsify.comparison.results import Results, Row, collect_run, summarise_runs
from sparsify.comparison.tables import evaluation_sets, percent, to_csv
from sparsify.files import replacing
from sparsify.report import tables
from sparsify.report.accuracy import accuracy_panel
from sparsify.report.costs import Bar, cost_bars
from sparsify.report.curves import QUANTITIES, Curves, curve_panels, read_curves
from sparsify.report.highlights import duration, highlights, megabytes
from sparsify.report.layers import heat_legend, layer_bars, layer_heatmap
from sparsify.report.markup import Child, append, element, render
from sparsify.report.plot import Style, styles_of, swatch
from sparsify.training.run_directory import RunDirectory

REPORT_FILE = "report.html"
_CONTEXT = "pytorch"  # measured beside the engines that models are deployed in
# The browser itself sees to it that the page asks nobody for anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_report(run_dirs: Sequence[str | Path], path: str | Path) -> None:
    """Writes the report of finished runs.

    Args:
        run_dirs: Run directories.
        path: The HTML file; replaced if it exists.

    Raises:
        SparsifyError: A run is not complete, or the file cannot be written.
    """
    folders = [Path(folder) for folder in run_dirs]
    rows = [collect_run(folder) for folder in folders]
    names = [row["run"] for row in rows]
    if len(set(names)) < len(names):  # runs of several folders may have one name
        rows = [row | {"run": str(folder)} for row, folder in zip(rows, folders, strict=True)]
    results = summarise_runs(rows, RunDirectory(folders[0]).saved_recipe())
    curves = {row["run"]: read_curves(folder) for row, folder in zip(rows, folders, strict=True)}
    _write(_page(results, curves), Path(path))


def write_comparison_report(results: Results, folder: Path, path: Path) -> None:
    """Writes the report of a comparison.

    Args:
        results: The content of `results.json`.
        folder: What the paths in it start from.
        path: The HTML file; replaced if it exists.

    Raises:
        SparsifyError: The file cannot be written.
    """
    curves = {row["run"]: read_curves((folder / row["curves"]).parent) for row in results["runs"]}
    _write(_page(results, curves), path)


def _write(page: Element, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(f"<!doctype html>\n{render(page)}\n", "utf-8")


def _page(results: Results, curves: Mapping[str, Curves]) -> Element:
    rows = results["runs"]
    styles = styles_of(row["method"] for row in rows)
    title = _title(rows)
    body = element("body")
    append(body, _header(title, results))
    content = element("main")
    if rows:
        append(content, highlights(results))
        append(content, _legend(styles, results["means"]))
        append(content, _sections(results, curves, styles))
    append(content, _failures(results), _recipe(results))
    append(body, content, element("div", id="tip", role="status", hidden=True))
    for name, text in (
        ("data", json.dumps({"results": results, "curves": curves}, allow_nan=False)),
        ("csv", json.dumps(to_csv(results))),
    ):
        # Within a script element only the start of a tag could end it.
        safe = text.replace("<", "\\u003c")
        append(body, element("script", safe, type="application/json", id=name))
    append(body, element("script", _asset("page.js")))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"{title} · sparsify"),
        element("link", rel="icon", href="data:,"),
        element("style", _asset("style.css")),
    )
    return element("html", head, body, lang="en")


def _title(rows: Sequence[Row]) -> str:
    if len(rows) == 1:
        return str(rows[0]["run"])
    methods = len({row["method"] for row in rows})
    targets = sorted({row["target_sparsity"] for row in rows} - {None})
    title = f"{methods} method{'s' if methods != 1 else ''}"
    if not targets:
        return title
    *others, last = (f"{100 * target:g}" for target in targets)
    return f"{title} at {', '.join(others)}{' and ' if others else ''}{last} % sparsity"


def _header(title: str, results: Results) -> Element:
    rows = results["runs"]
    facts = [f"{len(rows)} run{'s' if len(rows) != 1 else ''}"]
    if rows:
        first = rows[0]
        facts.append(f"{first['model']}, {first['parameters']:,} parameters")
        facts.append(f"{first['steps']:,} steps")
        facts.append(f"trained on {'/'.join(Path(first['data']).parts[-2:])}")
        facts += sorted({row["device"] for row in rows})[:2]
    buttons = [
        element("button", text, type="button", id=name)
        for text, name in (("JSON", "get-json"), ("CSV", "get-csv"), ("Theme", "theme"))
    ]
    buttons[-1].set("aria-label", "Switch between light and dark")
    return element(
        "header",
        element("div", element("p", "sparsify", class_="brand"), element("h1", title)),
        element("div", buttons, class_="buttons"),
        element("p", " · ".join(facts), class_="facts"),
    )


def _legend(styles: Mapping[str, Style], means: Sequence[Row]) -> Element | None:
    methods = list(dict.fromkeys(entry["method"] for entry in means))
    if len(methods) < 2:
        return None
    boxes = [
        element(
            "label",
            element("input", type="checkbox", checked=True, value=method),
            swatch(styles[method]),
            element("span", method),
        )
        for method in methods
    ]
    return element("nav", boxes, class_="legend", aria_label="Methods shown")


def _sections(
    results: Results, curves: Mapping[str, Curves], styles: Mapping[str, Style]
) -> list[Element | None]:
    rows, means = results["runs"], results["means"]
    sets = evaluation_sets(results)
    sparse = [row for row in rows if row["target_sparsity"] is not None]
    accuracy = None
    if len(means) > 1 and sparse:
        panels = [
            accuracy_panel(metric, title, means, rows, styles) for metric, title in sets.items()
        ]
        accuracy = _section(
            "Accuracy",
            "EER against sparsity",
            "Markers are means over seeds, bars their range, dots the single runs. Equal distances"
            " to the right are equal factors in the number of weights left.",
            element("div", panels, class_="panels wide"),
        )
    return [
        accuracy,
        element("section", element("h2", "Results"), tables.means_table(results, styles)),
        _training(rows, curves, styles),
        _layers(rows, sparse, styles),
        _costs(means, rows, styles),
        element(
            "section",
            element(
                "details",
                element("summary", f"All {len(rows)} runs"),
                tables.runs_table(results, styles),
            ),
        )
        if len(rows) > 1
        else None,
    ]


def _training(
    rows: Sequence[Row], curves: Mapping[str, Curves], styles: Mapping[str, Style]
) -> Element:
    drawn = [(each, curve_panels(each, rows, curves, styles)) for each in QUANTITIES]
    figures = [
        _figure(quantity.title, quantity.about, element("div", panels, class_="panels"))
        for quantity, panels in drawn
        if panels
    ]
    few = max(len(panels) for _, panels in drawn) < 2
    return element(
        "section",
        element("h2", "Training"),
        element("div", figures, class_="panels figures") if few else figures,
    )


def _layers(
    rows: Sequence[Row], sparse: Sequence[Row], styles: Mapping[str, Style]
) -> Element | None:
    names = [[layer["name"] for layer in row["layers"]] for row in rows]
    if not sparse or any(each != names[0] for each in names):
        return None  # models of several architectures have no layers in common
    heat = None
    if len({(row["method"], row["target_sparsity"]) for row in rows}) > 1:
        heat = _figure(
            "Layer-wise sparsity",
            "Share of each layer's weights that is left, mean over seeds, on a logarithmic scale:"
            " darker is sparser.",
            heat_legend(),
            element("div", layer_heatmap(sparse), class_="scroll"),
        )
    targets = sorted({row["target_sparsity"] for row in sparse})
    choices = [
        element(
            "button",
            percent(target),
            type="button",
            data_choose=f"{target:g}",
            aria_pressed="true" if target == targets[0] else "false",
        )
        for target in targets
    ]
    charts = [
        element(
            "div",
            layer_bars([row for row in sparse if row["target_sparsity"] == target], styles),
            class_="scroll",
            data_choice=f"{target:g}",
        )
        for target in targets
    ]
    bars = _figure(
        "Weights left, layer by layer",
        "Share of each layer's weights that are not zero, mean over seeds.",
        element("div", choices, class_="choices", role="group", aria_label="Target sparsity")
        if len(choices) > 1
        else None,
        *charts,
    )
    return element("section", element("h2", "Layers"), heat, bars)


def _costs(means: Sequence[Row], rows: Sequence[Row], styles: Mapping[str, Style]) -> Element:
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
        _figure(
            "File size",
            "The model file with exact zeros as it is and zipped, and in the bitmask layout"
            " (the nonzeros and one bit per weight).",
            cost_bars("File size", means, size_bars, styles),
        ),
        _figure(
            "Training time",
            "Wall clock per run, mean over seeds; runs beside one another share the machine.",
            cost_bars("Training time", means, time_bar, styles),
        ),
    ]
    figures += _latency(rows, styles)
    return element("section", element("h2", "Cost"), element("div", figures, class_="panels wide"))


def _latency(rows: Sequence[Row], styles: Mapping[str, Style]) -> list[Element]:
    measured: dict[str, Row] = {}
    for row in rows:
        if row["latency"]:
            cell = label(row["method"], row["target_sparsity"])
            measured.setdefault(cell, row | {"cell": cell})
    if not measured:
        return []
    entries = list(measured.values())
    machine = entries[0]["latency"]["machine"]
    threads = sorted({line["threads"] for line in entries[0]["latency"]["rows"]})
    figures = []
    for count in threads:

        def bars(entry: Row, count: int = count) -> list[Bar]:
            return [
                (
                    "bar-pale" if line["artifact"] == "dense" else "bar-fill",
                    line["median_ms"],
                    f"{line['median_ms']:.2f} ms {line['engine']}, {line['artifact']}",
                )
                for line in entry["latency"]["rows"]
                if line["threads"] == count and line["engine"] != _CONTEXT
            ]

        about = f"Median of 2 s of speech on {machine['cpu']}; dense is the same without zeros."
        title = f"Latency, {count} thread{'s' if count > 1 else ''}"
        figures.append(_figure(title, about, cost_bars(title, entries, bars, styles)))
    return figures


def _failures(results: Results) -> Element | None:
    if not results["failures"]:
        return None
    items = [
        element("li", element("strong", name), f": {error}")
        for name, error in results["failures"].items()
    ]
    return element("section", element("h2", "Failed runs"), element("ul", items), class_="failed")


def _recipe(results: Results) -> Element:
    text = yaml.safe_dump(results["recipe"], sort_keys=False, allow_unicode=True)
    command = results["command"]
    return element(
        "section",
        element(
            "details",
            element("summary", "Recipe"),
            element("p", element("code", command)) if command else None,
            element("pre", element("code", text)),
        ),
    )


def _section(heading: str, title: str, about: str, *content: Child) -> Element:
    return element("section", element("h2", heading), _figure(title, about, *content))


def _figure(title: str, about: str, *content: Child) -> Element:
    return element(
        "figure",
        element("figcaption", element("h3", title), element("p", about)),
        *content,
    )


def _asset(name: str) -> str:
    return resources.files("sparsify.report").joinpath(name).read_text("utf-8")
