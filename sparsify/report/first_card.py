"""The first card of the report: what a model has lost and gained against the dense one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import label_of, series_name, target_of, target_text
from sparsify.comparison.differences import REFERENCE
from sparsify.comparison.means import EER_HIGH, EER_LOW
from sparsify.comparison.results import Results
from sparsify.comparison.rows import CONTEXT, Row, fastest
from sparsify.comparison.wording import evaluation_sets, is_clear, signed
from sparsify.report.markup import element
from sparsify.report.summary import ratio_text

_TINY = 1e-9

Figure = tuple[str, str, str]
"""A name, a figure, and a sentence about it."""


def first_card(results: Results) -> Element:
    """EER, size of the file to deploy and latency, each as far as it is known."""
    entry, why = chosen(results)
    dense = reference(entry, results["means"])
    heading = (
        entry["method"]
        if target_of(entry) is None
        else f"{entry['method']} at {target_text(entry)}"
    )
    if dense is not None and dense is not entry:
        heading += f" against {dense['cell']}"
    known = [
        _eer(entry, dense, results),
        _file(entry, dense, results),
        _latency(entry, dense, results),
    ]
    return element(
        "div",
        element("h2", heading, element("small", why) if why else None),
        [element("div", tile_parts(*each)) for each in known if each],
        class_="tile first",
    )


def tile_parts(name: str, figure: str, about: str) -> list[Element]:
    """What a tile consists of."""
    texts = {"tile-name": name, "tile-figure": figure, "tile-about": about}
    return [element("p", text, class_=kind) for kind, text in texts.items()]


def megabytes(size: float) -> str:
    """A size in decimal units, such as `1.50 MB`."""
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def ratio_of(one: float, other: float) -> float:
    """How many times as large one is, of figures that a stranger's file may say are zero."""
    return max(one, _TINY) / max(other, _TINY)


def chosen(results: Results) -> tuple[Row, str]:
    """The mean that the report begins with, and why it is that one.

    The sparsest that is as good as dense on every evaluation set, or else that of the lowest EER.
    """
    means = results["means"]
    sparse = [entry for entry in means if target_of(entry) is not None]
    good = [entry for entry in sparse if _as_good(entry, reference(entry, means), results)]
    if good:
        return max(good, key=lambda entry: (zeros(entry), -eer(entry))), (
            "the sparsest that is, by the means, as good as dense on every evaluation set"
        )
    best = min(sparse or means, key=eer)
    return best, "the lowest EER of a sparse model" if sparse and len(means) > 1 else ""


def reference(entry: Row, means: list[Row]) -> Row | None:
    """The dense model of the same width, or the one that there is."""
    names = (series_name(REFERENCE, entry.get("width")), REFERENCE)
    by_method = {each["method"]: each for each in means}
    return next((by_method[name] for name in names if name in by_method), None)


def zeros(entry: Row) -> float:
    """The target sparsity, or the sparsity that a target in multiply-adds has led to."""
    return float(entry["target_sparsity"] or mean_of(entry, "sparsity"))


def mean_of(entry: Row, metric: str) -> float:
    """The mean of a metric over seeds."""
    return float(entry["metrics"][metric]["mean"])


def eer(entry: Row) -> float:
    """The EER that stands for the model, in percent."""
    return mean_of(entry, "eer_percent")


def _as_good(entry: Row, dense: Row | None, results: Results) -> bool:
    if dense is None:
        return False
    sets = [name for name in evaluation_sets(results) if name in dense["metrics"]]
    return all(
        name in entry["metrics"] and mean_of(entry, name) <= mean_of(dense, name) for name in sets
    )


def _eer(entry: Row, dense: Row | None, results: Results) -> Figure:
    standing, metrics = results["standing"], entry["metrics"]
    about = f"on {standing} speech"
    if dense is not None and dense is not entry:
        about = f"{_loss(entry, dense, results)}, {about}"
    elif f"{standing}.{EER_LOW}" in metrics:
        low, high = (mean_of(entry, f"{standing}.{end}") for end in (EER_LOW, EER_HIGH))
        about += f", 95% interval {low:.2f} to {high:.2f}"
    return "EER", f"{eer(entry):.2f}%", about


def _loss(entry: Row, dense: Row, results: Results) -> str:
    gap = eer(entry) - eer(dense)
    text = f"the same as dense, {eer(dense):.2f}%"
    if round(gap, 2):
        word = "lost" if gap > 0 else "gained"
        text = f"{abs(gap):.2f} points {word} against {eer(dense):.2f}%"
    for row in results["differences"]:
        names = row["test"], row["method"], row["against"], target_of(row)
        if names == (results["standing"], entry["method"], dense["method"], target_of(entry)):
            chance = "" if is_clear(row) else ", which may be chance"
            return f"{text} (95% interval {signed(row['low'])} to {signed(row['high'])}{chance})"
    return text


def _file(entry: Row, dense: Row | None, results: Results) -> Figure:
    line = _fastest(entry, results) or {}
    if target_of(entry) is None and not line.get("bytes"):
        return "File", megabytes(mean_of(entry, "bytes")), "with all its weights"
    size = line.get("bytes") or mean_of(entry, "bitmask_bytes")
    kind = f"for {line['engine']}" if line.get("bytes") else "in the bitmask layout"
    plain = mean_of(entry if dense is None else dense, "bytes")
    than = "its plain file" if dense is None else "the dense file"
    ratio = ratio_text(
        ratio_of(plain, size), f"smaller than {than}", f"larger than {than}", f"as large as {than}"
    )
    return "File", megabytes(size), f"{kind}, {ratio} of {megabytes(plain)}"


def _latency(entry: Row, dense: Row | None, results: Results) -> Figure | None:
    line = _fastest(entry, results)
    if line is None:
        return None
    about = f"2 s of speech in {line['engine']}, one thread"
    other = _fastest(dense, results) if dense is not None and dense is not entry else None
    other = other or _fastest_twin(entry, results)
    if other is not None and other is not line:
        ratio = ratio_of(other["median_ms"], line["median_ms"])
        gain = ratio_text(ratio, "faster than dense", "slower than dense", "as fast as dense")
        about += f", {gain} in {other['engine']} ({other['median_ms']:.2f} ms)"
    return "Latency", f"{line['median_ms']:.2f} ms", about


def _measured(entry: Row, results: Results) -> list[Row]:
    return [row for row in results["runs"] if row["latency"] and label_of(row) == entry["cell"]]


def _fastest(entry: Row, results: Results) -> Mapping[str, Any] | None:
    """The line of the engine that a model is fastest in."""
    return next((line for row in _measured(entry, results) if (line := fastest(row))), None)


def _fastest_twin(entry: Row, results: Results) -> Mapping[str, Any] | None:
    """That of its twin without zeros, which was measured beside it."""
    lines = [
        line
        for row in _measured(entry, results)[:1]
        for line in row["latency"]["rows"]
        if line["artifact"] == "dense" and line["threads"] == 1 and line["engine"] != CONTEXT
    ]
    return min(lines, key=lambda line: line["median_ms"], default=None)
