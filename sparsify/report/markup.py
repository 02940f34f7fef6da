"""HTML and SVG elements, escaped by the standard library."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

Child: TypeAlias = "Element | str | Iterable[Element | str | None] | None"
Attribute: TypeAlias = "str | float | bool | None"


def element(tag: str, *children: Child, **attributes: Attribute) -> Element:
    """An element with its children.

    Args:
        tag: Name, such as `div` or `circle`.
        children: Elements, text, or lists of these; `None` is left out.
        attributes: In a name `_` stands for `-`, and is dropped at the end (`class_`). Numbers are
            written with two decimals at most; `None` and `False` are left out.
    """
    made = Element(
        tag,
        {
            _name(key): _text(value)
            for key, value in attributes.items()
            if value is not None and value is not False
        },
    )
    append(made, *children)
    return made


def append(parent: Element, *children: Child) -> None:
    """Adds children, as `element` does."""
    for child in children:
        if isinstance(child, Element):
            parent.append(child)
        elif isinstance(child, str):
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + child
            else:
                parent.text = (parent.text or "") + child
        elif child is not None:
            append(parent, *child)


def render(root: Element) -> str:
    """The element as HTML."""
    return ElementTree.tostring(root, encoding="unicode", method="html")


def _name(key: str) -> str:
    return key if key == "viewBox" else key.rstrip("_").replace("_", "-")


def _text(value: str | float) -> str:
    if isinstance(value, bool):
        return ""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
