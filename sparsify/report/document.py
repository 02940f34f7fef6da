"""The frame of every page: one HTML file that needs nothing else, and asks nobody for anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from sparsify.documents import to_json
from sparsify.files import replacing
from sparsify.report.markup import Child, append, element, render

_ROOM, _GAP = 1142.0, 22.0  # inner width of a card in a wide window, and between its parts
_WIDEST = 460.0  # what a narrow screen can shrink with its texts still readable
# The browser itself sees to it that no request leaves the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_document(
    path: Path,
    title: str,
    facts: Sequence[str],
    content: Child,
    data: Mapping[str, Any],
    csv: str | None = None,
) -> None:
    """Writes a page.

    Args:
        path: The HTML file; replaced if it exists.
        title: Its heading.
        facts: What is said under the heading.
        content: Sections.
        data: Embedded as JSON; its `results` can be downloaded.
        csv: Can be downloaded, too.

    Raises:
        SparsifyError: The file cannot be written.
    """
    body = element("body", _header(title, facts, with_csv=csv is not None))
    append(body, element("main", content), element("div", id="tip", role="status", hidden=True))
    embedded = {"data": data} if csv is None else {"data": data, "csv": csv}
    for name, value in embedded.items():
        # Within a script element only the start of a tag could end it.
        text = to_json(value).replace("<", "\\u003c")
        append(body, element("script", text, type="application/json", id=name))
    append(body, element("script", _asset("page.js")))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"{title} · sparsify"),
        element("link", rel="icon", href="data:,"),
        element("style", _asset("style.css")),
    )
    with replacing(path) as temporary:
        page = render(element("html", head, body, lang="en"))
        # Names of files may hold bytes that are no characters.
        temporary.write_text(f"<!doctype html>\n{page}\n", "utf-8", errors="replace")


def figure(title: str, about: str, *content: Child) -> Element:
    """A card with a heading, a sentence and what it is about."""
    return element(
        "figure",
        element("figcaption", element("h3", title), element("p", about)),
        *content,
    )


def choice(name: str, charts: Mapping[str, Element]) -> list[Element]:
    """Charts of which one is shown at a time, and buttons to choose it if there are several.

    Args:
        name: What is chosen, for those who cannot see the buttons.
        charts: By what the button says; the first is shown first.
    """
    shown = [element("div", chart, data_choice=text) for text, chart in charts.items()]
    if len(charts) < 2:
        return shown
    buttons = [element("button", text, type="button", data_choose=text) for text in charts]
    return [element("div", buttons, class_="choices", role="group", aria_label=name), *shown]


def grid(items: Sequence[Element], most: int) -> Element:
    """Elements beside one another in rows without a hole; narrow screens have fewer in a row.

    Args:
        items: What is laid out; each is given its share of a row.
        most: How many stand in a row at most.
    """
    for item, count in zip(items, per_row(len(items), most), strict=True):
        item.set("style", f"--n:{count}")
    return element("div", items, class_="rows")


def per_row(count: int, most: int) -> list[int]:
    """How many share the row of each item: as few rows as can be, of nearly the same length."""
    rows = -(-count // most)
    lengths = [count // rows + (row < count % rows) for row in range(rows)] if rows else []
    return [length for length in lengths for _ in range(length)]


def share_of(count: int) -> float:
    """The width of a drawing that stands in a row of so many."""
    return min(_WIDEST, (_ROOM - _GAP * (count - 1)) / count)


def section(heading: str, *content: Child) -> Element:
    """A part of a page."""
    return element("section", element("h2", heading), *content)


def _header(title: str, facts: Sequence[str], *, with_csv: bool) -> Element:
    names = {"get-json": "JSON"} | ({"get-csv": "CSV"} if with_csv else {}) | {"theme": "Theme"}
    buttons = [element("button", text, type="button", id=name) for name, text in names.items()]
    buttons[-1].set("aria-label", "Switch between light and dark")
    return element(
        "header",
        element("div", element("p", "sparsify", class_="brand"), element("h1", title)),
        element("div", buttons, class_="buttons"),
        element("p", " · ".join(facts), class_="facts"),
    )


def _asset(name: str) -> str:
    return resources.files("sparsify.report").joinpath(name).read_text("utf-8")
