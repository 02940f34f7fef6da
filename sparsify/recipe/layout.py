"""How recipes are written: what is long and seldom read takes few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


class _Line(dict[str, Any]):
    """A mapping that takes one line."""


class _Dumper(yaml.SafeDumper):
    """Knows lines."""


_Dumper.add_representer(
    _Line, lambda dumper, line: dumper.represent_mapping("tag:yaml.org,2002:map", line, True)
)


def to_yaml(content: Mapping[str, Any]) -> str:
    """YAML in the order of the content, which is JSON and may have parts made by `compact`."""
    return yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )


def compact(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe whose `model.widths` take one line for each layer in YAML."""
    model = recipe["model"]
    widths = {
        path: _Line(own) if isinstance(own, Mapping) else own
        for path, own in model.get("widths", {}).items()
    }
    return {**recipe, "model": {**model, "widths": widths}}


def abridged(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe to be shown, which says of `model.widths` only how many there are."""
    model = recipe["model"]
    if not model["widths"]:
        return dict(recipe)
    said = f"{len(model['widths'])} layers narrowed"
    return {**recipe, "model": {**model, "widths": said}}


def by_layer(widths: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Widths by layer and by the name of a tensor in it, such as `layer1.conv` and `weight`."""
    layers: dict[str, dict[str, Any]] = {}
    for name, width in widths.items():
        path, _, own = name.rpartition(".")
        layers.setdefault(path, {})[own] = width
    return layers


def by_tensor(widths: Any) -> Any:
    """The same by the whole names, such as `layer1.conv.weight`, from either form."""
    if not isinstance(widths, Mapping):
        return widths
    tensors: dict[Any, Any] = {}
    for path, width in widths.items():
        own = width if isinstance(width, Mapping) else {None: width}
        tensors |= {_joined(path, name): each for name, each in own.items()}
    return tensors


def _joined(path: Any, name: Any) -> Any:
    return path if name is None else f"{path}.{name}" if path else name
