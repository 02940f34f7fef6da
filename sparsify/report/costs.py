"""What models cost: training time, size, latency, as horizontal bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from xml.etree.ElementTree import Element

from sparsify.comparison.rows import Row
from sparsify.report.markup import append
from sparsify.report.plot import Style, label, line, method_group, natural, rectangle, room_for, svg

_NAMES, _VALUES = 118.0, 120.0  # at least
_BARS = 280.0
_ROW = 22.0

Bar = tuple[str, float, str]
"""Class of the style sheet, length, and what is said of it."""


def cost_bars(
    title: str,
    entries: Sequence[Row],
    bars_of: Callable[[Row], Sequence[Bar]],
    styles: Mapping[str, Style],
) -> Element:
    """A line per entry with one or more bars.

    Args:
        title: What the lengths are, for those who cannot see them.
        entries: Each with its `cell` and `method`.
        bars_of: The bars of an entry, the longest in the drawing giving the scale.
        styles: By method.
    """
    bars = [bars_of(entry) for entry in entries]
    longest = max((length for each in bars for _, length, _ in each), default=0) or 1.0
    row = _ROW * max(len(each) for each in bars) * (0.8 if len(bars[0]) > 1 else 1)
    left = room_for((entry["cell"] for entry in entries), _NAMES)
    right = room_for((text for each in bars for _, _, text in each), _VALUES)
    drawing = svg(left + _BARS + right, row * len(entries) + 8, title)
    for number, (entry, own) in enumerate(zip(entries, bars, strict=True)):
        top = number * row + 4
        parts = [label(entry["cell"], left - 10, top + row / 2 - 1, "head", "end")]
        thick = (row - 6) / len(own)
        for place, (kind, length, text) in enumerate(own):
            y = top + place * thick
            extent = _BARS * length / longest
            tip = f"{entry['cell']}\n{text}"
            shape = rectangle(left, y, max(extent, 1.0), thick - 1.5, kind, tip)
            value = label(text, left + extent + 6, y + thick / 2 - 0.5, "tick", "start")
            parts += [shape, value]
        append(drawing, method_group(entry["method"], styles[entry["method"]], *parts))
    append(drawing, line(left, 0, left, row * len(entries) + 2, "axis"))
    return natural(drawing)
