"""The first lines of the report: what came out."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from sparsify.comparison.cells import target_of, target_text
from sparsify.comparison.results import Results
from sparsify.comparison.rows import Row
from sparsify.report.first_card import (
    Figure,
    chosen,
    eer,
    first_card,
    mean_of,
    megabytes,
    ratio_of,
    tile_parts,
    zeros,
)
from sparsify.report.markup import element


def highlights(results: Results) -> Element:
    """What a model has lost and gained, and a few more figures, each with a sentence."""
    rows = results["runs"]
    tiles = _of_one(rows[0]) if len(rows) == 1 else _of_many(results)
    return element(
        "div",
        first_card(results),
        [element("div", tile_parts(*tile), class_="tile") for tile in tiles],
        class_="tiles",
    )


def duration(seconds: float) -> str:
    """A time that can be read at a glance, such as `6.4 min`."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _of_one(row: Row) -> list[Figure]:
    target = target_of(row)
    asked = "no target" if target is None else f"target {target.text}"
    macs = row.get("macs")
    work = f", {macs:.3%} of the multiply-adds" if macs is not None else ""
    return [
        ("Sparsity", f"{row['sparsity']:.3%}", f"of the prunable weights{work}; {asked}"),
        ("Weights left", f"{row['nonzero']:,}", f"of {row['parameters']:,} parameters"),
        ("Training", duration(row["seconds"]), f"{row['steps']:,} steps of {row['method']}"),
    ]


def _of_many(results: Results) -> list[Figure]:
    """The best sparse models that the first card is not about."""
    sparse = [entry for entry in results["means"] if target_of(entry) is not None]
    if not sparse:
        return []
    first, _ = chosen(results)
    best = min(sparse, key=eer)
    _, sparsest = max((zeros(entry), target_of(entry)) for entry in sparse)
    top = min((entry for entry in sparse if target_of(entry) == sparsest), key=eer)
    standing = results["standing"]
    named = {
        "Lowest EER of a sparse model": (best, f"on {standing}, mean of {_seeds(best)}"),
        f"Best at {target_text(top)}": (top, f"on {standing}, {_size(top)}"),
    }
    return [
        (name, f"{eer(entry):.2f}%", f"{entry['cell']}, {about}")
        for name, (entry, about) in named.items()
        if entry is not first
    ]


def _size(entry: Row) -> str:
    factor = ratio_of(mean_of(entry, "bytes"), mean_of(entry, "bitmask_bytes"))
    packed = megabytes(mean_of(entry, "bitmask_bytes"))
    return f"{packed} in the bitmask layout, {factor:.1f}× smaller than dense"


def _seeds(entry: Row) -> str:
    count = len(entry["seeds"])
    return f"{count} seeds" if count > 1 else "one seed"
