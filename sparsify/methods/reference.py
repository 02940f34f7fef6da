"""The reference of recipes, from their schema: `python -m sparsify.methods.reference FILE`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sparsify.files import write_text
from sparsify.methods.names import METHODS
from sparsify.methods.registry import options_of
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.validation import Section

Schema = Mapping[str, Any]

INTRODUCTION = """# All settings of a recipe

This page is made by `python -m sparsify.methods.reference docs/recipe-reference.md` from the schema
that recipes are checked against. Do not edit it. [training.md](training.md) explains how recipes
are used, and [methods.md](methods.md) what the methods do.

A recipe is a YAML file. A key with dots is one in a section: `training.steps` stands as `steps`
under `training`. On the command line `--set KEY=VALUE` sets any of them, and `sparsify train
--dry-run` shows what comes of it. An unknown key is refused, with a suggestion.

A *number* may have decimals, a *whole number* may not. A *text* is a string, a *list* is `[a, b]`,
and a *mapping* is `{a: b}`. `null` stands for nothing. Shares are from 0 to 1, not percentages.
"""

_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
}
_KINDS = {
    "number": "number",
    "integer": "whole number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "array": "list",
    "object": "mapping",
}
# Of an entry of a docstring; what follows is indented deeper.
_ENTRY = re.compile(r"^    (\w+): ", re.MULTILINE)


def page() -> str:
    """The page in Markdown."""
    recipe = [row for row in settings(Recipe) if "." not in row[0] and row[0] != "methods"]
    parts = [INTRODUCTION, "## The recipe itself", _table(recipe)]
    for name, section in _sections(Recipe):
        parts += [f"## `{name}`", _summary(section), _table(settings(section, f"{name}."))]
    parts += [
        "## `methods`",
        "The options of each method, by its name. Those of other methods than the chosen one are"
        " ignored, so that one recipe serves them all.",
    ]
    for name in METHODS:
        options = options_of(name)
        rows = _table(settings(options, f"methods.{name}."))
        parts += [f"### `{name}`", _summary(options), rows]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def settings(section: type[Section], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """All that can be set in a section, and in those in it: key, type, default and meaning.

    Args:
        section: The section.
        prefix: Of the keys.
    """
    schema = section.model_json_schema()
    meanings = documented(section)
    inner = dict(_sections(section))
    for name, field in section.model_fields.items():
        if name in inner:
            yield from settings(inner[name], f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else _code(_shown(section, name))
        yield f"{prefix}{name}", kind(schema["properties"][name]), default, meanings[name]


def documented(section: type[Section]) -> dict[str, str]:
    """What the docstrings of a section, and of what it is derived from, say of its fields."""
    meanings: dict[str, str] = {}
    for each in reversed(section.__mro__):
        if issubclass(each, Section):
            text = inspect.cleandoc(each.__dict__.get("__doc__") or "")
            names = _ENTRY.split(text.partition("Attributes:\n")[2])[1:]
            pairs = zip(names[::2], names[1::2], strict=True)
            meanings |= {name: " ".join(told.split()) for name, told in pairs}
    return meanings


def kind(schema: Schema) -> str:
    """The type that a JSON schema asks for, with its bounds."""
    if "anyOf" in schema:
        return ", or ".join(map(kind, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(_code(_in_yaml(value)) for value in values)
    text = _KINDS[schema["type"]]
    bounds = ", ".join(
        form.format(f"{schema[key]:,.15g}") for key, form in _BOUNDS.items() if key in schema
    )
    if bounds:
        text += f" {bounds}"
    if "prefixItems" in schema:
        return f"{text} of {len(schema['prefixItems'])}: each {kind(schema['prefixItems'][0])}"
    if "items" in schema:
        return f"{text} of {kind(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"{text} to {kind(schema['additionalProperties'])}"
    return text


def _sections(section: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    """The sections in one."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


def _shown(section: type[Section], name: str) -> str:
    """The default of a field as YAML has it."""
    return _in_yaml(_plain(section.model_fields[name].get_default(call_default_factory=True)))


def _in_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _summary(section: type[Section]) -> str:
    """What a section is about: its docstring up to the attributes."""
    return inspect.cleandoc(section.__doc__ or "").partition("\n\nAttributes:")[0]


def _code(text: str) -> str:
    return f"`{text}`"


def _table(rows: Iterator[tuple[str, str, str, str]] | list[tuple[str, str, str, str]]) -> str:
    lines = [
        f"| `{key}` | {kind} | {default} | {meaning.replace('|', chr(92) + '|')} |"
        for key, kind, default, meaning in rows
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *lines])


def main() -> None:
    """Writes the page to the file that is named."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m sparsify.methods.reference FILE")
    write_text(Path(sys.argv[1]), page())


if __name__ == "__main__":
    main()
