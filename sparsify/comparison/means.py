"""Means over seeds: what tables and gates know of a method at a target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from sparsify.comparison.cells import Cell, label_of, target_keys, target_of
from sparsify.comparison.rows import CORRUPTED, VALIDATED, Row
from sparsify.comparison.test_sets import VALIDATION

EER_LOW, EER_HIGH = "eer_percent_low", "eer_percent_high"
_COUNTED = (
    "sparsity",
    "global_sparsity",
    "eer_percent",
    "min_dcf",
    "parameters",
    "nonzero",
    "bytes",
    "zipped_bytes",
    "bitmask_bytes",
    "steps",
    "seconds",
)
_WORK = ("multiply_adds", "mac_sparsity")
_TESTED = ("eer_percent", "min_dcf")


def by_cell(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The runs of each method at each target, by `adabreg@0.9` and the like."""
    cells: dict[str, list[Row]] = {}
    for row in rows:
        cells.setdefault(label_of(row), []).append(row)
    return cells


def means(rows: Iterable[Row]) -> list[Row]:
    """Mean, smallest and largest of every metric over seeds, method by method, by target."""
    cells = by_cell(rows)
    methods = list(dict.fromkeys(group[0]["method"] for group in cells.values()))

    def place(cell: str) -> tuple[int, tuple[float, ...]]:
        first = cells[cell][0]
        return methods.index(first["method"]), target_of(first) or ()

    return [
        {
            "cell": name,
            "method": group[0]["method"],
            **target_keys(target_of(group[0])),
            "width": group[0].get("width"),
            "seeds": [row["seed"] for row in group],
            "collapsed": sum(row.get("collapsed") is not None for row in group),
            "metrics": _spreads([metrics_of(row) for row in group]),
        }
        for name in sorted(cells, key=place)
        for group in [cells[name]]
    ]


def metrics_of(row: Row) -> dict[str, float]:
    """The numbers of a row by name: its own, `validation.eer_percent`, `TEST.eer_percent` …

    `TEST.eer_percent_low` and `TEST.eer_percent_high` are the confidence interval over speakers.
    """
    figures = {key: float(row[key]) for key in _COUNTED}
    for key in ("macs", *_WORK):  # known of some runs alone
        if row.get(key) is not None:
            figures[key] = float(row[key])
    for name, group in ((VALIDATION, row[VALIDATION]), *row["tests"].items()):
        for key in VALIDATED if name == VALIDATION else _TESTED:
            if key in group:
                figures[f"{name}.{key}"] = float(group[key])
        if interval := group.get("confidence"):
            low, high = interval["eer_percent"]
            figures |= {f"{name}.{EER_LOW}": low, f"{name}.{EER_HIGH}": high}
    return figures


def metric_names(tests: Sequence[str], *, corrupted: bool, counted: bool) -> list[str]:
    """The metrics that runs will have once they are evaluated on these test sets.

    Args:
        tests: Names of the test sets.
        corrupted: Whether validation speech is corrupted, too.
        counted: Whether the multiply-adds of the network can be counted.
    """
    names = [f"{VALIDATION}.{key}" for key in VALIDATED if corrupted or key != CORRUPTED]
    return [
        *_COUNTED,
        *(_WORK if counted else ()),
        *names,
        *(f"{test}.{key}" for test in tests for key in _TESTED),
    ]


def gate_metrics(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Means over seeds as gates see them: by `adabreg@0.9` and the like, then by metric.

    A sparsity within one weight of the target, as near as it can be, is the target there.

    Args:
        rows: Of the runs.
    """
    cells, found = by_cell(rows), {}
    for entry in means(rows):
        figures = {name: spread["mean"] for name, spread in entry["metrics"].items()}
        target, layers = entry["target_sparsity"], cells[entry["cell"]][0]["layers"]
        weights = sum(layer["parameters"] for layer in layers)
        if target is not None and abs(figures["sparsity"] - target) * weights < 1:
            figures["sparsity"] = target
        found[entry["cell"]] = figures
    return found


def expected_metrics(
    cells: Iterable[Cell], tests: Sequence[str], *, corrupted: bool, counted: bool
) -> dict[str, dict[str, float]]:
    """What `gate_metrics` will know of a grid, see `metric_names`; the values mean nothing."""
    names = metric_names(tests, corrupted=corrupted, counted=counted)
    return {cell.label: dict.fromkeys(names, 0.0) for cell in cells}


def _spreads(figures: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    everywhere = [name for name in figures[0] if all(name in each for each in figures)]
    columns = {name: [each[name] for each in figures] for name in everywhere}
    return {
        name: {"mean": mean(values), "min": min(values), "max": max(values)}
        for name, values in columns.items()
    }
