"""Where the zeros are: a heat map over all models, and bars layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import Target, cell_label, target_of
from sparsify.comparison.rows import Row
from sparsify.report.markup import append
from sparsify.report.plot import (
    Style,
    label,
    line,
    method_group,
    natural,
    rectangle,
    room_for,
    svg,
)
from sparsify.texts import shortened

_ROW = 15.0
_LETTER = 6.4  # width of one of a layer's name
_LONGEST = 44  # letters of such a name
_FULL = 820.0  # width that columns share as long as they do not get too narrow
_FLOOR = 1e-3  # share of weights left that has the darkest colour
_STEPS = 12  # colours of the heat map


def layer_heatmap(rows: Sequence[Row]) -> Element:
    """The share of weights left in every layer (down) of every model (across).

    Args:
        rows: Of the runs; those that differ only in the seed are averaged.
    """
    models = _models(rows)
    names = [layer["name"] for layer in rows[0]["layers"]]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    texts = {model: "–" if model[1] is None else model[1].text for model in models}
    wide = min(max(_FULL / len(models), room_for(texts.values(), 40.0)), 200.0)
    left, top = _room_for_layers(names), 40.0
    order = sorted(models, key=lambda each: (methods.index(each[0]), each[1] or ()))
    x, places, gap = left, {}, 10.0
    for number, model in enumerate(order):
        if number and model[0] != order[number - 1][0]:
            x += gap
        places[model] = x
        x += wide
        if number + 1 == len(order) or model[0] != order[number + 1][0]:
            count = sum(each[0] == model[0] for each in order)
            x += max(0.0, room_for([model[0]], 0) - count * wide)  # for its name
    drawing = svg(x + 4, top + _ROW * len(names) + 6, "Weights left in every layer of every model")
    for method in methods:
        own = [places[model] for model in order if model[0] == method]
        append(drawing, label(method, own[0] + 1, 9, "head", "start"))
        append(drawing, line(own[0] + 1, 19, own[-1] + wide - 2, 19, "axis"))
    for model, place in places.items():
        append(drawing, label(texts[model], place + wide / 2, 29, "tick", "middle"))
    for number, name in enumerate(names):
        y = top + number * _ROW
        append(drawing, label(_name(name), left - 8, y + _ROW / 2, "layer", "end"))
        for model, place in places.items():
            sparsity = mean(row["layers"][number]["sparsity"] for row in models[model])
            size = rows[0]["layers"][number]["parameters"]
            where = f"{cell_label(*model)}\n{short_name(name)}"
            tip = f"{where}\n{sparsity:.2%} of {size:,} weights are zero"
            colour = f"h{_colour(1 - sparsity)}"
            append(drawing, rectangle(place, y, wide - 1, _ROW - 1, colour, tip))
            if sparsity == 1:
                append(drawing, label("0", place + wide / 2, y + _ROW / 2, "on-dark", "middle"))
    return natural(drawing)


def heat_legend() -> Element:
    """The colours of the heat map and what they mean."""
    wide, high = 18.0, 12.0
    drawing = svg(_STEPS * wide + 60, 34, "Scale of the heat map", class_="legend-scale")
    for step in range(_STEPS):
        append(drawing, rectangle(30 + step * wide, 2, wide, high, f"h{step}"))
    for share in (1.0, 0.1, 0.01, 0.001):
        x = 30 + (1 - math.log10(share) / math.log10(_FLOOR)) * wide * _STEPS
        append(drawing, label(f"{100 * share:g}%", x, 24, "tick", "middle"))
    return drawing


def layer_bars(rows: Sequence[Row], styles: Mapping[str, Style]) -> Element:
    """The share of weights left, layer by layer, in the models of one target.

    Args:
        rows: Of the runs with this target; those that differ only in the seed are averaged.
        styles: By method.
    """
    models = _models(rows)
    names = [layer["name"] for layer in rows[0]["layers"]]
    top, gap = 30.0, 20.0
    room = max(_FULL / len(models) - gap, room_for((name for name, _ in models), 105.0))
    left = _room_for_layers(names)
    longest = max(
        1 - mean(row["layers"][n]["sparsity"] for row in group)
        for group in models.values()
        for n in range(len(names))
    )
    drawing = svg(
        left + len(models) * (room + gap) + 30,
        top + _ROW * len(names) + 6,
        "Weights left, layer by layer",
    )
    for number, name in enumerate(names):
        y = top + (number + 0.5) * _ROW
        append(drawing, label(_name(name), left - 8, y, "layer", "end"))
    for column, ((method, target), group) in enumerate(models.items()):
        x = left + column * (room + gap)
        parts: list[Element] = [label(method, x, 9, "head", "start")]
        parts.append(line(x, 19, x, top + _ROW * len(names), "axis"))
        for number, name in enumerate(names):
            layers = [row["layers"][number] for row in group]
            share = 1 - mean(layer["sparsity"] for layer in layers)
            nonzero = mean(layer["nonzero"] for layer in layers)
            y = top + number * _ROW
            tip = (
                f"{cell_label(method, target)}\n{short_name(name)}\n"
                f"{share:.2%} left: {nonzero:,.0f} of {layers[0]['parameters']:,}"
            )
            extent = (room - 44) * share / longest if longest else 0.0
            parts.append(rectangle(x, y + 2, max(extent, 1.0), _ROW - 5, "bar-fill", tip))
            parts.append(label(_share(share), x + 4 + extent, y + _ROW / 2, "tick", "start"))
        append(drawing, method_group(method, styles[method], *parts))
    return natural(drawing)


def short_name(name: str) -> str:
    """The layer that a weight belongs to."""
    return name.removesuffix(".weight")


def _name(name: str) -> str:
    """The layer that a weight belongs to, at a length that can be drawn."""
    return shortened(short_name(name), _LONGEST)


def _room_for_layers(names: Sequence[str]) -> float:
    return 12 + _LETTER * max(len(_name(name)) for name in names)


def _models(rows: Sequence[Row]) -> dict[tuple[str, Target | None], list[Row]]:
    models: dict[tuple[str, Target | None], list[Row]] = {}
    for row in rows:
        models.setdefault((row["method"], target_of(row)), []).append(row)
    return models


def _colour(left: float) -> int:
    """0 for the darkest colour, few weights left, to the lightest, all of them."""
    share = 1 - math.log10(max(left, _FLOOR)) / math.log10(_FLOOR)
    return min(int(share * _STEPS), _STEPS - 1)


def _share(left: float) -> str:
    percent = 100 * left
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.2g}%" if percent else "0"
