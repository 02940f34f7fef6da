"""Validated settings: what every section of a recipe is, and errors in it as one sentence."""

from __future__ import annotations

from collections.abc import Mapping
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
# As they are read back from a saved recipe, so that it equals the one that was saved.
Options = Annotated[dict[str, Any], AfterValidator(to_jsonable_python)]


class Section(BaseModel):
    """A part of a recipe: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses `true` for a number, which pydantic takes for 1."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if (
            isinstance(value, bool)
            and {int, float} & {kind, *get_args(kind)}
            and bool not in get_args(kind)
        ):
            raise ValueError("true and false are no numbers")
        return value


S = TypeVar("S", bound=Section)


def validate(section: type[S], content: Mapping[str, Any], where: str) -> S:
    """Validates `content`, turning pydantic's report into one sentence.

    Raises:
        SparsifyError: A key or value does not fit.
    """
    try:
        return section.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        key = ".".join(path)
        if first["type"] == "extra_forbidden":
            raise SparsifyError(
                f"{where}: unknown key '{key}', {_suggestion(section, path)}"
            ) from error
        if first["type"] == "missing":
            mend = f": --set {where}.{key}=… gives it" if where.startswith("methods.") else ""
            raise SparsifyError(f"{where}: '{key}' is missing and has no default{mend}") from error
        section_wide = isinstance(first["input"], Mapping)
        given = "" if section_wide else f" = {first['input']!r} does not fit"
        value = f"{key}{given}: " if key else ""
        message = first["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        bounds, number = first.get("ctx", {}), first["input"]
        if 1 in (bounds.get("lt"), bounds.get("le")) and not isinstance(number, str):
            message += f" ({number:g} % is {number / 100:g})" if 1 < number < 100 else ""
        raise SparsifyError(f"{where}: {value}{message}") from error


def _suggestion(section: type[Section], path: list[str]) -> str:
    node: Any = section
    for part in path[:-1]:
        node = node.model_fields[part].annotation
    return did_you_mean(path[-1], list(node.model_fields))
