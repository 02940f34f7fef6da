"""The first lines of the report: what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import target_of, target_text
from sparsify.comparison.differences import REFERENCE
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row
from sparsify.comparison.wording import evaluation_sets
from sparsify.report.markup import element


def highlights(results: Results) -> Element:
    """A few figures, each with a sentence."""
    rows = results["runs"]
    tiles = _of_one(rows[0], results) if len(rows) == 1 else _of_many(results)
    return element(
        "div",
        [
            element(
                "div",
                element("p", name, class_="tile-name"),
                element("p", figure, class_="tile-figure"),
                element("p", about, class_="tile-about"),
                class_="tile",
            )
            for name, figure, about in tiles
        ],
        class_="tiles",
    )


def duration(seconds: float) -> str:
    """A time that can be read at a glance, such as `6.4 min`."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def megabytes(size: float) -> str:
    """A size in decimal units, such as `1.50 MB`."""
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _of_one(row: Row, results: Results) -> list[tuple[str, str, str]]:
    target = target_of(row)
    asked = "no target" if target is None else f"target {target.text}"
    macs = row.get("macs")
    work = f", {macs:.3%} of the multiply-adds" if macs is not None else ""
    return [
        ("EER", f"{row['eer_percent']:.2f} %", f"on {results['standing']} speech"),
        ("Sparsity", f"{row['sparsity']:.3%}", f"of the prunable weights{work}; {asked}"),
        ("Weights left", f"{row['nonzero']:,}", f"of {row['parameters']:,} parameters"),
        (
            "File",
            megabytes(row["bitmask_bytes"]),
            f"in the bitmask layout; {megabytes(row['bytes'])} raw,"
            f" {megabytes(row['zipped_bytes'])} zipped",
        ),
        ("Training", duration(row["seconds"]), f"{row['steps']:,} steps of {row['method']}"),
    ]


def _of_many(results: Results) -> list[tuple[str, str, str]]:
    means = results["means"]
    dense = next((entry for entry in means if entry["method"] == REFERENCE), None)
    sparse = [entry for entry in means if target_of(entry) is not None]
    tiles = []
    if sparse:
        best = min(sparse, key=_eer)
        against = "" if dense is None else f"; {REFERENCE} {_eer(dense):.2f} %"
        tiles.append(
            (
                "Lowest EER of a sparse model",
                f"{_eer(best):.2f} %",
                f"{best['cell']}, the best of {len(sparse)} on {results['standing']},"
                f" mean of {_seeds(best)}{against}",
            )
        )
    if dense is not None and sparse:
        sets = {n: title for n, title in evaluation_sets(results).items() if n in dense["metrics"]}
        as_good = [
            entry
            for entry in sparse
            if all(n in entry["metrics"] and _mean(entry, n) <= _mean(dense, n) for n in sets)
        ]
        if as_good:
            top = max(as_good, key=lambda e: (_zeros(e), -_eer(e)))
            figures = (
                f"{_mean(top, n):.2f} % against {_mean(dense, n):.2f} % on {title}"
                for n, title in sets.items()
            )
            tiles.append(
                (
                    "Sparsest as good as dense",
                    f"{100 * _zeros(top):.4g} %",
                    f"{top['method']}, by the means: {', '.join(figures)}",
                )
            )
    if sparse:
        sparsest = target_of(max(sparse, key=_zeros))
        top = min((e for e in sparse if target_of(e) == sparsest), key=_eer)
        factor = _mean(top, "bytes") / _mean(top, "bitmask_bytes")
        tiles.append(
            (
                f"Best at {target_text(top)}",
                f"{_eer(top):.2f} %",
                f"{top['method']}: {megabytes(_mean(top, 'bitmask_bytes'))} in the bitmask layout,"
                f" {factor:.1f}× smaller than dense",
            )
        )
    runs = results["runs"]
    failed = len(results["failures"])
    tiles.append(
        (
            "Runs",
            f"{len(runs)}" + (f" + {failed} failed" if failed else ""),
            f"{duration(sum(row['seconds'] for row in runs))} of training in all",
        )
    )
    return tiles


def _zeros(entry: Mapping[str, Any]) -> float:
    """The target sparsity, or the sparsity that a target in multiply-adds has led to."""
    return float(entry["target_sparsity"] or _mean(entry, "sparsity"))


def _mean(entry: Mapping[str, Any], metric: str) -> float:
    return float(entry["metrics"][metric]["mean"])


def _eer(entry: Row) -> float:
    return _mean(entry, "eer_percent")


def _seeds(entry: Row) -> str:
    count = len(entry["seeds"])
    return f"{count} seeds" if count > 1 else "one seed"
