"""YAML and JSON from anybody, read in bounded time and memory, and JSON that every parser reads."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sparsify.errors import SparsifyError

MOST_YAML_BYTES = 1 << 18
MOST_JSON_BYTES = 1 << 28
MOST_LIST_BYTES = 1 << 30
_DEEPEST = 64
_MOST_NODES = 50_000  # of a YAML document, its aliases written out
_MOST_DIGITS = 20
# What constructing YAML scalars of a wrong form ends in, such as `!!bool maybe` or `2024-13-45`.
_YAML_ERRORS = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
)


class BoundedLoader(yaml.SafeLoader):
    """Plain YAML whose depth and size, with all aliases written out, are bounded."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Composes a node, and refuses it where it is too deep or too large."""
        mark, is_alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"more than {_DEEPEST} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise yaml.MarkedYAMLError(problem="a value contains itself", problem_mark=mark)
        children: Any = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            children = [each for pair in children for each in pair]
        size = 1 + sum(self._sizes[id(child)] for child in children)
        if size > _MOST_NODES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {_MOST_NODES} values, aliases written out", problem_mark=mark
            )
        self._sizes[id(node)] = size
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """An integer of a length that can be computed with."""
        if len(node.value) > 2 * _MOST_DIGITS + 64:  # room for binary and underscores
            raise ValueError(f"a number of {len(node.value)} digits")
        return _bounded(super().construct_yaml_int(node))


BoundedLoader.add_constructor("tag:yaml.org,2002:int", BoundedLoader.construct_yaml_int)


def parse_yaml(text: str, what: str, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """The content of a YAML document.

    Args:
        text: The document.
        what: What it is, for errors: "the recipe in 'model.onnx'".
        loader: How it is read.

    Raises:
        SparsifyError: It is not valid YAML, or larger than any document of ours could be.
    """
    if len(text) > MOST_YAML_BYTES:
        raise SparsifyError(f"{what} has more than {MOST_YAML_BYTES >> 10} KiB")
    try:
        return yaml.load(text, loader)
    except _YAML_ERRORS as error:
        raise SparsifyError(f"{what} is not valid YAML: {_reason(error)}") from error


def parse_json(text: str, what: str) -> Any:
    """The content of a JSON document, its numbers finite and at most `_MOST_DIGITS` long.

    Args:
        text: The document.
        what: What it is, for errors: "line 3 of 'train.jsonl'".

    Raises:
        SparsifyError: It is not valid JSON, or deeper than any document of ours could be.
    """
    try:
        value = _DECODER.decode(text)
        if text.count("[") + text.count("{") > _DEEPEST and _depth(value) > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels")
    except RecursionError as error:
        raise SparsifyError(f"{what} is not valid JSON: more than {_DEEPEST} levels") from error
    except ValueError as error:
        raise SparsifyError(f"{what} is not valid JSON: {_reason(error)}") from error
    return value


def read_text(path: Path, most_bytes: int, *, pipes: bool = False) -> str:
    """The text of a file.

    Args:
        path: The file.
        most_bytes: How large it may be, such as `MOST_JSON_BYTES`.
        pipes: Whether it may be a pipe, as a shell's `<(…)` is. What is found by its name may not:
            nobody need be writing into it.

    Raises:
        SparsifyError: It is larger, not UTF-8, or no file.
        OSError: It cannot be read.
    """
    if not pipes and path.exists() and not (path.is_file() or path.is_dir()):
        raise SparsifyError(f"'{path}' is a pipe or a device: put a file there")
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise SparsifyError(f"'{path}' is larger than {most_bytes >> 10} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SparsifyError(f"'{path}' is not UTF-8 text, from byte {error.start} on") from error


def split_at_blanks(line: str, most: int = 0) -> list[str]:
    """The fields of a line of a list, as Kaldi has them: other white space belongs to names.

    Args:
        line: One line; an empty one has one empty field.
        most: How often it is split; 0 for as often as there are blanks.
    """
    return re.split(r"[ \t]+", line.strip(" \t\r\n"), maxsplit=most)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON in which a number that is not finite is `null`, since JSON has no word for it."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(each) for each in value]
    return value


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, (dict, list))]:
        level = [
            child for each in level for child in (each.values() if isinstance(each, dict) else each)
        ]
        depth += 1
    return depth


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:_MOST_DIGITS]} is too large")
    return number


def _int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _bounded(number: int) -> int:
    if abs(number) >= 10**_MOST_DIGITS:
        raise ValueError(f"a number of more than {_MOST_DIGITS} digits")
    return number


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_float, parse_int=_int)
