"""Results as CSV, one line per run, and as a Markdown table, one line per method and target."""

from __future__ import annotations

import csv
import io

from sparsify.comparison.cells import target_text
from sparsify.comparison.means import metrics_of
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row
from sparsify.comparison.wording import (
    INTERVALS,
    compared,
    difference_text,
    eer_text,
    evaluation_sets,
    interval_text,
    is_clear,
    left_out,
    lost,
    marked,
    references,
    spread_text,
    tuning_text,
)

DIFFERENCES = (
    "Differences in EER in points, with 95% intervals over test speakers and seeds that are drawn"
    " for both methods alike, of the seeds that both have; in bold, the interval leaves out zero."
    " With one seed they do not know what another training would give."
)
_NAMES = ("run", "method", "target_sparsity", "target_macs", "seed")


def to_csv(results: Results) -> str:
    """All runs with all metrics; a figure that a run lacks is left empty."""
    records = [
        {name: row.get(name) for name in _NAMES} | metrics_of(row) for row in results["runs"]
    ]
    columns = dict.fromkeys(name for record in records for name in record)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns or _NAMES), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in each.items()} for each in records)
    return text.getvalue()


def to_markdown(results: Results) -> str:
    """Means over seeds and, of several seeds, the range."""
    sets = evaluation_sets(results)
    heads = ["method", "target", "sparsity", "nonzero"]
    heads += [f"EER {title} %" for title in sets.values()]
    heads += ["minDCF", "zipped", "training", "seeds"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    for entry in results["means"]:
        metrics = entry["metrics"]
        cells = [
            marked(entry),
            target_text(entry),
            f"{metrics['sparsity']['mean']:.3%}",
            f"{metrics['nonzero']['mean']:,.0f}",
            *(eer_text(metrics, name) for name in sets),
            spread_text(metrics["min_dcf"], ".3f"),
            f"{metrics['zipped_bytes']['mean'] / 1e6:.2f} MB",
            f"{metrics['seconds']['mean'] / 60:.1f} min",
            str(len(entry["seeds"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if any(interval_text(entry["metrics"], name) for entry in results["means"] for name in sets):
        lines.append(f"\n{INTERVALS}")
    lines += _differences_markdown(results)
    lines += [f"\n{sentence}" for sentence in lost(results)]
    lines += [f"\n{tuning_text(row)}" for row in results["tuning"]]
    lines += [f"\n`{name}` failed: {error}" for name, error in results["failures"].items()]
    return "\n".join(lines) + "\n"


def _differences_markdown(results: Results) -> list[str]:
    """The differences to the first reference as a table."""
    against = next(iter(references(results)), None)
    if against is None:
        return []
    tests = list(dict.fromkeys(row["test"] for row in results["differences"]))
    heads = ["method", "target", *(f"EER {test}, against {against}" for test in tests)]
    lines = [f"\n| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    for method, target, by_test in compared(results, against):
        cells = [method, "–" if target is None else target.text]
        for test in tests:
            text = difference_text(by_test[test]) if test in by_test else "–"
            cells.append(f"**{text}**" if test in by_test and is_clear(by_test[test]) else text)
        lines.append(f"| {' | '.join(cells)} |")
    notes = [DIFFERENCES, left_out(results)]
    return [*lines, *(f"\n{note}" for note in notes if note)]


def _plain(value: Row | float | str | None) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
