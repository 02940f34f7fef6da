"""The report of a layer sensitivity: a heat map and a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from xml.etree.ElementTree import Element

from sparsify.report.document import figure, section, write_document
from sparsify.report.layer_charts import short_name
from sparsify.report.markup import append
from sparsify.report.plot import label, natural, rectangle, svg
from sparsify.report.sortable_tables import table
from sparsify.verification.sensitivity import LayerSensitivity, Probe, Sensitivity

_ROW, _WIDE, _NAMES = 19.0, 110.0, 240.0
_WORST = 10.0  # points of EER lost that have the darkest colour
_DARKEST_OF_LIGHT = 6  # from this colour of the heat map on dark text is read better


def write_sensitivity_report(result: Sensitivity, name: str, path: Path) -> None:
    """Writes the page.

    Args:
        result: What was measured.
        name: Of the model.
        path: The HTML file; replaced if it exists.

    Raises:
        SparsifyError: The file cannot be written.
    """
    facts = [
        f"EER {result.eer_percent:.2f}% as it is",
        f"{result.utterances} utterances",
        f"{result.trials:,} trials",
        "every layer pruned alone, by magnitude, without training after it",
    ]
    content = [
        section(
            "Points of EER lost",
            figure(
                "With one layer pruned",
                "Darker is worse. Layers that are sparser already than a level are as they were.",
                _heatmap(result, lambda probe: probe.eer_percent - result.eer_percent),
            ),
        ),
        section("Layers", _table(result)),
    ]
    write_document(path, f"Sensitivity of {name}", facts, content, {"results": asdict(result)})


def _heatmap(result: Sensitivity, lost: Callable[[Probe], float]) -> Element:
    top, width = 24.0, _NAMES + _WIDE * len(result.levels)
    drawing = svg(width, top + _ROW * len(result.layers), "Points of EER lost by layer and level")
    for column, level in enumerate(result.levels):
        centre = _NAMES + (column + 0.5) * _WIDE
        append(drawing, label(f"{100 * level:g}%", centre, 11, "head", "middle"))
    for number, layer in enumerate(result.layers):
        y = top + number * _ROW
        append(drawing, label(short_name(layer.name), _NAMES - 8, y + _ROW / 2, "layer", "end"))
        for column, probe in enumerate(layer.probes):
            x, colour = _NAMES + column * _WIDE, _colour(lost(probe))
            tip = (
                f"{short_name(layer.name)} at {probe.sparsity:.2%}"
                f"\nEER {probe.eer_percent:.2f}%\ncosine {probe.cosine:.4f}"
            )
            cell = rectangle(x, y, _WIDE - 1, _ROW - 1, f"h{colour}", tip)
            kind = "on-light" if colour >= _DARKEST_OF_LIGHT else "on-dark"
            text = f"{lost(probe):+.2f}".replace("-", "−") if probe.cosine < 1 else "0"
            value = label(text, x + _WIDE / 2, y + _ROW / 2 - 0.5, kind, "middle")
            append(drawing, cell, value)
    return natural(drawing)


def _colour(lost: float) -> int:
    share = min(max(lost, 0.0) / _WORST, 1.0) ** 0.5
    return round(11 * (1 - share))


def _table(result: Sensitivity) -> Element:
    heads = ["Layer", "Weights", "Sparsity"]
    heads += [f"EER at {100 * level:g}%" for level in result.levels]
    heads.append(f"Cosine at {100 * result.levels[-1]:g}%")
    return table(heads, [("", _line(layer)) for layer in result.layers])


def _line(layer: LayerSensitivity) -> list[tuple[float | str, str]]:
    return [
        (layer.name, short_name(layer.name)),
        (layer.parameters, f"{layer.parameters:,}"),
        (layer.sparsity, f"{layer.sparsity:.2%}"),
        *((probe.eer_percent, f"{probe.eer_percent:.2f}") for probe in layer.probes),
        (layer.probes[-1].cosine, f"{layer.probes[-1].cosine:.4f}"),
    ]
