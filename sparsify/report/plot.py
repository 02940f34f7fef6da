"""The parts of a chart: frame, axes, lines, markers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from xml.etree.ElementTree import Element

from sparsify.comparison.cells import series_name
from sparsify.comparison.differences import REFERENCE
from sparsify.methods.names import method_names
from sparsify.report.axes import Axis, without_crowding
from sparsify.report.markup import append, element

_LETTER = 7.2  # width of one of those that name a row, at most
_DIGIT = 6.3  # and of one of a tick
# The first is that of the dense reference.
MARKERS = (
    *("circle", "square", "triangle", "diamond", "down", "cross", "plus", "pentagon"),
    *("star", "left", "right"),
)
_COLOURS = 10  # in the style sheet, chosen to be told apart by the colour-blind, too
_DASHES = ("none", "7 3", "2 3")
_DENSE_OF_A_WIDTH = re.compile(series_name(REFERENCE, 0).replace("0", r"\d+"))


@dataclass(frozen=True)
class Style:
    """How a method is drawn everywhere: a colour of the style sheet, a marker and a dash."""

    colour: str
    marker: str
    dash: str = "none"


def styles_of(methods: Collection[str]) -> dict[str, Style]:
    """A style for each method, as far as possible the same on every page.

    The dense reference is grey, its widths are shades of grey, registered methods have colours of
    their own, and others take what is free.
    """
    grey = [name for name in dict.fromkeys(methods) if _DENSE_OF_A_WIDTH.fullmatch(name)]
    others = [name for name in dict.fromkeys(methods) if name not in (*grey, REFERENCE)]
    colours = [name for name in method_names() if name != REFERENCE][:_COLOURS]
    free = (n for n in count() if n >= len(colours) or colours[n] not in others)
    numbers = {
        method: colours.index(method) if method in colours else next(free) for method in others
    }
    styles = {
        # When colours come again it is with other markers and dashed lines.
        method: Style(
            f"var(--s{n % _COLOURS})",
            MARKERS[1 + (n + n // _COLOURS) % (len(MARKERS) - 1)],
            _DASHES[n // _COLOURS % len(_DASHES)],
        )
        for method, n in numbers.items()
    }
    dense = {REFERENCE: Style("var(--reference)", MARKERS[0])}
    return styles | _shades(grey, styles.values()) | dense


def _shades(grey: Sequence[str], others: Iterable[Style]) -> dict[str, Style]:
    """Styles of the dense reference at several widths, with markers that are free if any are."""
    taken = {style.marker for style in others}
    markers = sorted(MARKERS, key=lambda kind: kind in taken)
    return {
        name: Style(
            f"color-mix(in oklab, var(--pale) {100 * n // max(len(grey) - 1, 1)}%, var(--ink))",
            markers[n % len(markers)],
        )
        for n, name in enumerate(grey)
    }


def spread(wanted: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """Positions near those wanted, in their order, that keep a distance between two limits.

    If there is no room for all of them, those that lie too low are what leaves the limits.
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    places = [min(wanted[index], high) for index in order]
    for n in reversed(range(len(places) - 1)):
        places[n] = min(places[n], places[n + 1] - distance)
    for n, place in enumerate(places):
        places[n] = max(place, places[n - 1] + distance if n else low)
    found = dict(zip(order, places, strict=True))
    return [found[index] for index in range(len(wanted))]


def room_for(names: Iterable[str], least: float) -> float:
    """The width that the names of rows need beside a plot."""
    return max([least, *(_LETTER * len(name) + 14 for name in names)])


@dataclass(frozen=True)
class Frame:
    """A plot and the room around it, in units of the drawing."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x: Axis
    y: Axis

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The position of a point."""
        return self.at_x(x), self.at_y(y)

    def at_x(self, value: float) -> float:
        """Horizontal position."""
        return self.left + self.x.share(value) * (self.width - self.left - self.right)

    def at_y(self, value: float) -> float:
        """Vertical position."""
        return (
            self.height - self.bottom - self.y.share(value) * (self.height - self.top - self.bottom)
        )

    def draw(self, name: str, x_title: str, y_title: str, **data: str | float) -> Element:
        """An SVG with grid, ticks and titles of the axes.

        Args:
            name: What it shows, for those who cannot see it.
            x_title: Under the horizontal axis.
            y_title: Above the vertical axis.
            data: More attributes.
        """
        drawing = svg(self.width, self.height, name, **data)
        right, bottom = self.width - self.right, self.height - self.bottom
        for value, text in without_crowding(self.y.ticks, self.at_y, lambda _: 16):
            y = self.at_y(value)
            append(drawing, line(self.left, y, right, y, "grid"))
            append(drawing, label(text, self.left - 7, y, "tick", "end"))
        for value, text in without_crowding(self.x.ticks, self.at_x, _tick_room):
            x = self.at_x(value)
            append(drawing, line(x, bottom, x, bottom + 4, "axis"))
            append(drawing, label(text, x, bottom + 14, "tick", "middle"))
        append(drawing, line(self.left, bottom, right, bottom, "axis"))
        if x_title:
            append(drawing, label(x_title, right, self.height - 5, "title", "end"))
        if y_title:
            append(drawing, label(y_title, 2, 9, "title", "start"))
        return drawing


def svg(width: float, height: float, name: str, **data: str | float) -> Element:
    """An empty drawing that scales with its column."""
    return element(
        "svg",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=name,
        xmlns="http://www.w3.org/2000/svg",
        **data,
    )


def natural(drawing: Element) -> Element:
    """A drawing that keeps its size, so that its texts can be read where it has to be scrolled."""
    width = drawing.get("viewBox", "").split()[2]
    fixed = element("div", drawing, class_="fixed", style=f"--natural:{width}px")
    return element("div", fixed, class_="scroll")


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Element:
    """A straight line of a class of the style sheet."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def rectangle(
    x: float, y: float, width: float, height: float, kind: str, tip: str | None = None
) -> Element:
    """A rectangle of a class of the style sheet, and what pointing at it shows."""
    return element("rect", x=x, y=y, width=width, height=height, class_=kind, data_tip=tip)


def label(text: str, x: float, y: float, kind: str, anchor: str) -> Element:
    """Text, its middle at `y`."""
    return element("text", text, x=x, y=y, class_=kind, text_anchor=anchor, dy="0.34em")


def polyline(points: Sequence[tuple[float, float]], kind: str, colour: str) -> Element:
    """A line through points."""
    path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("path", d=path, class_=kind, style=f"--c:{colour}")


def method_group(method: str, style: Style, *children: Element) -> Element:
    """What a method shows; hidden when the reader hides the method."""
    look = f"--c:{style.colour};--dash:{style.dash}"
    return element("g", *children, data_method=method, style=look)


def marker(kind: str, x: float, y: float, size: float, tip: str | None = None) -> Element:
    """A marker; `tip` appears when it is pointed at or focused."""
    tipped: Mapping[str, str | None] = (
        {"data_tip": tip, "tabindex": "0", "role": "img", "aria_label": tip} if tip else {}
    )
    if kind == "circle":
        return element("circle", cx=x, cy=y, r=size * 0.92, class_="marker", **tipped)
    if kind == "cross":
        corners = _cross(size, math.pi / 4)
    elif kind == "plus":
        corners = _cross(size, 0)
    else:
        count, turn, scale = {
            "square": (4, math.pi / 4, 1.2),
            "triangle": (3, 0.0, 1.25),
            "diamond": (4, 0.0, 1.25),
            "down": (3, math.pi, 1.25),
            "pentagon": (5, 0.0, 1.1),
            "star": (10, 0.0, 1.35),
            "left": (3, -math.pi / 2, 1.25),
            "right": (3, math.pi / 2, 1.25),
        }[kind]
        inner = 0.45 if kind == "star" else 1.0
        corners = [
            _polar(scale * size * (inner if n % 2 else 1.0), turn + 2 * math.pi * n / count)
            for n in range(count)
        ]
    path = "M" + "L".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners) + "Z"
    return element("path", d=path, class_="marker", **tipped)


def swatch(style: Style) -> Element:
    """The marker of a method for legends and tables."""
    drawing = element(
        "svg", viewBox="0 0 14 14", class_="swatch", style=f"--c:{style.colour}", aria_hidden="true"
    )
    append(drawing, marker(style.marker, 7, 7, 5))
    return drawing


def _tick_room(text: str) -> float:
    """The width of a tick's label with some space, at least that of four digits."""
    return max(26.0, _DIGIT * len(text) + 5)


def _polar(radius: float, angle: float) -> tuple[float, float]:
    """Clockwise from the top."""
    return radius * math.sin(angle), -radius * math.cos(angle)


def _cross(size: float, turn: float) -> list[tuple[float, float]]:
    arm, thick = size * 1.25, size * 0.42
    corners = []
    for quarter in range(4):
        angle = turn + quarter * math.pi / 2
        for side, reach in ((-thick, thick), (-thick, arm), (thick, arm)):
            sine, cosine = math.sin(angle), math.cos(angle)
            corners.append((side * cosine + reach * sine, side * sine - reach * cosine))
    return corners
