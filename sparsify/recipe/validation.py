"""Validated settings: what every section of a recipe is, and errors in it as one sentence."""

from __future__ import annotations

import difflib
import json
import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import to_jsonable_python

from sparsify.errors import SparsifyError, did_you_mean

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
_TOO_LARGE = 1 << 53  # numbers from here on are not exact everywhere
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def _jsonable(options: dict[str, Any]) -> dict[str, Any]:
    """Options as they are read back from a saved recipe, so that it equals the one saved."""
    plain: dict[str, Any] = to_jsonable_python(options)
    json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    return plain


Options = Annotated[dict[str, Any], AfterValidator(_jsonable)]


class Section(BaseModel):
    """A part of a recipe: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_a_setting(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses `true` for a number, which pydantic takes for 1, and values beyond all use."""
        kinds = {*_kinds(cls.model_fields[str(info.field_name)].annotation)}
        values = value if isinstance(value, list | tuple) else [value]
        if kinds & {int, float} and bool not in kinds and any(isinstance(v, bool) for v in values):
            raise ValueError("true and false are no numbers")
        if isinstance(value, int) and abs(value) >= _TOO_LARGE:
            raise ValueError("the number is too large")
        if isinstance(value, bytes):
            raise ValueError("binary data belong into no setting")
        if isinstance(value, str) and _UNWRITABLE.search(value):
            raise ValueError("it has a character that no file can hold")
        return value

    @classmethod
    def setting_names(cls) -> Iterator[str]:
        """All that can be set, with dots where it is in a section of this one."""
        for name, field in cls.model_fields.items():
            section = _section_in(field.annotation)
            yield from (f"{name}.{key}" for key in section.setting_names()) if section else (name,)


def _kinds(annotation: Any) -> Iterator[Any]:
    """A type, and those that it is made of."""
    yield annotation
    for each in get_args(annotation):
        yield from _kinds(each)


# Others have these where a recipe has its steps.
_OF_METHODS = ("lr", "weight_decay", "momentum", "betas", "eps")
_NUMBER, _WHOLE = "it must be a number", "it must be a whole number"
_YES_OR_NO, _LIST = "it must be true or false", "it must be a list"
_SECTION = "it must be a section, with keys and values"
_RULES = {  # what pydantic calls an error, and how a person says it
    "bool_parsing": _YES_OR_NO,
    "bool_type": _YES_OR_NO,
    "dict_type": _SECTION,
    "float_parsing": _NUMBER,
    "float_type": _NUMBER,
    "greater_than": "it must be more than {gt}",
    "greater_than_equal": "it must be {ge} or more",
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_type": _WHOLE,
    "less_than": "it must be less than {lt}",
    "less_than_equal": "it must be {le} or less",
    "list_type": _LIST,
    "literal_error": "it must be {expected}",
    "model_type": _SECTION,
    "string_type": "it must be text",
    "too_long": "it must have {max_length} values or fewer",
    "too_short": "it must have {min_length} values or more",
    "tuple_type": _LIST,
}
_SHORTENER = reprlib.Repr()
_SHORTENER.maxstring = _SHORTENER.maxother = _SHORTENER.maxlong = 80

S = TypeVar("S", bound=Section)


def validate(section: type[S], content: Mapping[str, Any], where: str) -> S:
    """Validates `content`, turning pydantic's report into one sentence.

    Raises:
        SparsifyError: A key or value does not fit.
    """
    try:
        return section.model_validate(content)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        path = [str(part) for part in first["loc"]]
        key = ".".join(path)
        if first["type"] == "extra_forbidden":
            raise SparsifyError(
                f"{where}: unknown key '{key}', {_suggestion(section, path, content)}"
            ) from error
        if first["type"] == "missing" and isinstance(first["loc"][-1], int):
            *of_list, _ = first["loc"]
            places = [*others, first]
            least = max(int(e["loc"][-1]) for e in places if [*e["loc"][:-1]] == of_list) + 1
            name = ".".join(map(str, of_list))
            raise SparsifyError(f"{where}: {name} must have {least} values") from error
        if first["type"] == "missing":
            mend = f": --set {where}.{key}=… gives it" if where.startswith("methods.") else ""
            raise SparsifyError(f"{where}: '{key}' is missing and has no default{mend}") from error
        section_wide = isinstance(first["input"], Mapping)
        given = "" if section_wide else f" = {shown(first['input'])} does not fit"
        value = f"{key}{given}: " if key else ""
        bounds, number = first.get("ctx", {}), first["input"]
        exact = {
            key: int(value) if isinstance(value, float) and value.is_integer() else value
            for key, value in bounds.items()
        }
        message = _RULES.get(first["type"], "").format(**exact)
        message = message or first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if 1 in (bounds.get("lt"), bounds.get("le")) and isinstance(number, (int, float)):
            message += f" ({number:g}% is {number / 100:g})" if 1 < number < 100 else ""
        raise SparsifyError(f"{where}: {value}{message}") from error


def shown(value: Any) -> str:
    """A value from a file as a sentence can show it."""
    return _SHORTENER.repr(value)


def _suggestion(section: type[Section], path: list[str], content: Mapping[str, Any]) -> str:
    """What may have been meant: a name like it, or the same name in another place."""
    node, name = section, path[-1]
    for part in path[:-1]:
        if part in node.model_fields:  # the others are places in a list and keys of a mapping
            node = _section_in(node.model_fields[part].annotation) or node
    before = "".join(f"{part}." for part in path[:-1])
    known = list(node.model_fields)
    if not difflib.get_close_matches(name, known):
        elsewhere = [key for key in section.setting_names() if key.endswith(f".{name}")]
        if name in _OF_METHODS and isinstance(content.get("method"), str):
            elsewhere = [f"methods.{content['method']}.{name}"]
        if elsewhere:
            return did_you_mean(elsewhere[0], elsewhere)
    return did_you_mean(name, known, before)


def _section_in(annotation: Any) -> type[Section] | None:
    """The section that a field holds, by itself or in a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for each in get_args(annotation) if (found := _section_in(each))), None)
