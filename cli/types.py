"""Types of what is typed: they check it before anything slow is imported, and complete it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from sparsify.artifact.places import model_file
from sparsify.errors import SparsifyError

PATH = click.Path(path_type=Path)
_PERCENT = 2  # from which on a number that should be a share is one in percent


class Existing(click.Path):
    """A path to something that must be there.

    Args:
        missing: The sentence if it is not; `{}` becomes the path.
    """

    def __init__(self, missing: str) -> None:
        super().__init__(path_type=Path)
        self._missing = missing

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """The path.

        Raises:
            SparsifyError: Nothing is there.
        """
        if not os.path.lexists(value):
            raise SparsifyError(self._missing.format(os.fsdecode(value)))
        return super().convert(value, param, ctx)


class Model(Existing):
    """A path to a model: a file, or a folder that has one."""

    def __init__(self) -> None:
        super().__init__("no such file: '{}'")

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """The path.

        Raises:
            SparsifyError: Nothing is there, or a folder without a model.
        """
        path = super().convert(value, param, ctx)
        model_file(path)
        return path


class Share(click.ParamType):  # type: ignore[type-arg]
    """A number from 0 to 1; who means percent is told what to type.

    Args:
        between: Whether it may be neither 0 nor 1.
    """

    name = "share"

    def __init__(self, *, between: bool = False) -> None:
        self._between = between

    _form = re.compile(r"(?P<number>\d+(?:[.,]\d+)?)\s*(?P<percent>%?)")

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number."""
        text = str(value).strip()
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if self._fits(number):
            return number
        meant = "such as 0.9"
        if found := self._form.fullmatch(text):
            number = float(found["number"].replace(",", "."))
            number /= 100 if found["percent"] or number >= _PERCENT else 1
            meant = f"did you mean {number:g}?" if self._fits(number) else meant
        bounds = "between 0 and 1" if self._between else "from 0 to 1"
        return self.fail(f"'{text}' is not a share {bounds}, {meant}", param, ctx)

    def _fits(self, number: float) -> bool:
        return 0 < number < 1 if self._between else 0 <= number <= 1


class Number(click.FloatRange):
    """A number within bounds, which neither `nan` nor `inf` is."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"'{value}' is no finite number.", param, ctx)
        return number


class ByteCount(click.ParamType):  # type: ignore[type-arg]
    """A positive size, as a number of bytes or with a unit: `4e6`, `4MB`, `512 KiB`."""

    name = "size"
    _form = re.compile(
        r"\s*(?P<number>[\d.]+(?:e[+-]?\d+)?)\s*(?:(?P<power>[kmg])(?P<two>i?))?b?\s*"
    )

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number of bytes."""
        found = self._form.fullmatch(str(value).lower())
        try:
            number = float(found["number"] if found else value)
        except ValueError:
            self.fail(f"'{value}' is no size such as 4e6, 4MB or 512KiB.", param, ctx)
        if found and found["power"]:
            number *= (1024 if found["two"] else 1000) ** (1 + "kmg".index(found["power"]))
        if not 0 < number < math.inf:
            self.fail(f"{value} is no size: give a number above 0.", param, ctx)
        return number


class Name(click.ParamType):  # type: ignore[type-arg]
    """One of some names.

    Args:
        names: What they are now.
        check: Refuses a wrong one.
        files: Whether it may be a file instead.
        several: Whether it may be a list of them, with commas.
    """

    name = "text"

    def __init__(
        self,
        names: Callable[[], Iterable[str]],
        check: Callable[[str], None] | None = None,
        *,
        files: bool = False,
        several: bool = False,
    ) -> None:
        self._names = names
        self._check = check
        self._files = files
        self._several = several

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What is named, as it is typed or as a list.

        Raises:
            SparsifyError: The check refuses it.
        """
        named = [each.strip() for each in value.split(",")] if self._several else [value]
        if self._check:
            for each in named:
                self._check(each)
        return named if self._several else value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so."""
        before, comma, begun = incomplete.rpartition(",") if self._several else ("", "", incomplete)
        taken = before.split(",")
        names = [name for name in self._names() if name.startswith(begun) and name not in taken]
        if not names and self._files:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(f"{before}{comma}{name}") for name in names]


class Assignment(click.ParamType):  # type: ignore[type-arg]
    """`key=value` pairs, whose keys are completed.

    Args:
        keys: What they are now; one that ends in a dot has more behind it.
    """

    name = "text"

    def __init__(self, keys: Callable[[], Iterable[str]]) -> None:
        self._keys = keys

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The keys that begin so."""
        keys = (key if key.endswith(".") else f"{key}=" for key in self._keys())
        return [CompletionItem(key) for key in keys if key.startswith(incomplete)]
