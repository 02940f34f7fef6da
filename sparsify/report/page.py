"""The report of a comparison, or of runs that were trained by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import method_of, target_of
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row
from sparsify.comparison.text_tables import to_csv
from sparsify.comparison.wording import evaluation_sets
from sparsify.recipe.layout import compact, to_yaml
from sparsify.report.accuracy import accuracy_panel, spans_widely
from sparsify.report.difference_charts import differences_section
from sparsify.report.document import figure, grid, per_row, section, share_of, write_document
from sparsify.report.highlights import duration, highlights
from sparsify.report.markup import element
from sparsify.report.page_sections import (
    costs_section,
    layers_section,
    training_section,
    tuning_section,
)
from sparsify.report.plot import Style, styles_of, swatch
from sparsify.report.sortable_tables import means_table, runs_table
from sparsify.report.tradeoffs import tradeoffs_section

REPORT_FILE = "report.html"


def write_report(results: Results, path: Path) -> None:
    """Writes the report of a comparison, or of runs that `gather` brought together.

    Args:
        results: The content of `results.json`.
        path: The HTML file; replaced if it exists.

    Raises:
        SparsifyError: The file cannot be written.
    """
    rows, means = results["runs"], results["means"]
    styles = styles_of([row["method"] for row in rows])
    content: list[Element | None] = []
    if rows:
        content = [
            highlights(results),
            _legend(styles, means),
            tradeoffs_section(results, styles),
            _accuracy(results, styles),
            differences_section(results, styles),
            section("Results", means_table(results, styles)),
            training_section(rows, styles),
            layers_section(rows, styles),
            costs_section(means, rows, styles),
            tuning_section(results["tuning"]),
            _runs(results, styles),
        ]
    content += [_failures(results), _recipe(results)]
    data = {"results": results}
    write_document(path, _title(rows), _facts(rows), content, data, to_csv(results))


def _title(rows: Sequence[Row]) -> str:
    if len(rows) == 1:
        return str(rows[0]["run"])
    methods = len({method_of(row) for row in rows})
    targets = sorted({target for row in rows if (target := target_of(row))})
    title = f"{methods} method{'s' if methods != 1 else ''}"
    if (widths := len({row.get("width") for row in rows})) > 1:
        title += f" × {widths} widths"
    if not targets:
        return title
    if any(target.of_macs for target in targets):
        *others, last = (target.text for target in targets)
        return f"{title} at {', '.join(others)}{' and ' if others else ''}{last}"
    *others, last = (f"{100 * target.share:g}" for target in targets)
    return f"{title} at {', '.join(others)}{' and ' if others else ''}{last}% sparsity"


def _facts(rows: Sequence[Row]) -> list[str]:
    facts = [f"{len(rows)} run{'s' if len(rows) != 1 else ''}"]
    if len(rows) > 1:
        facts.append(f"{duration(sum(row['seconds'] for row in rows))} of training in all")
    if rows:
        first = rows[0]
        sizes = [row["parameters"] for row in rows]
        ends = " to ".join(f"{size:,}" for size in sorted({min(sizes), max(sizes)}))
        facts.append(f"{first['model']}, {ends} parameters")
        facts.append(f"{' or '.join(f'{n:,}' for n in sorted({r['steps'] for r in rows}))} steps")
        facts.append(f"trained on {'/'.join(Path(first['data']).parts[-2:])}")
        facts += sorted({row["device"] for row in rows})[:2]
    return facts


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


def _accuracy(results: Results, styles: Mapping[str, Style]) -> Element | None:
    """EER against sparsity, if there is more than one point."""
    rows, means = results["runs"], results["means"]
    if len(means) < 2 or not any(target_of(entry) for entry in means):
        return None
    sets = evaluation_sets(results)
    if not sets:  # no set that all means are of
        return None
    logarithmic = any(spans_widely(metric, means) for metric in sets)
    counts = per_row(len(sets), 2 if len(sets) < 5 else 3)
    panels = [
        accuracy_panel(
            metric, title, means, rows, styles, logarithmic=logarithmic, width=share_of(count)
        )
        for (metric, title), count in zip(sets.items(), counts, strict=True)
    ]
    return section(
        "Accuracy",
        figure(
            "EER against sparsity",
            "Markers are means over seeds, bars their range, dots the single runs. Equal distances"
            " to the right are equal factors in the number of weights left.",
            grid(panels, counts[0]),
        ),
    )


def _runs(results: Results, styles: Mapping[str, Style]) -> Element | None:
    rows = results["runs"]
    if len(rows) < 2:
        return None
    summary = element("summary", f"All {len(rows)} runs")
    return element("section", element("details", summary, runs_table(results, styles)))


def _failures(results: Results) -> Element | None:
    if not results["failures"]:
        return None
    items = [
        element("li", element("strong", name), f": {error}")
        for name, error in results["failures"].items()
    ]
    return element("section", element("h2", "Failed runs"), element("ul", items), class_="failed")


def _recipe(results: Results) -> Element:
    text = to_yaml(compact(results["recipe"]))
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
