"""The cells of the grid that a comparison fills: a method, a target and a seed each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from sparsify.methods.registry import pursues_target
from sparsify.recipe.validation import OpenFraction, Section, validate

Scalar = bool | int | float | str


class Target(NamedTuple):
    """What a method was asked for.

    Attributes:
        share: Of zeros among the prunable weights, or of the dense network's multiply-adds.
        of_macs: Which of both.
    """

    share: float
    of_macs: bool = False

    @property
    def name(self) -> str:
        """As in a gate: `0.9`, or `macs0.1`."""
        return f"{'macs' if self.of_macs else ''}{self.share:g}"

    @property
    def text(self) -> str:
        """As a percentage: `90 %`, or `10 % of MACs`."""
        return f"{100 * self.share:.6g}%{' of MACs' if self.of_macs else ''}"


def target_of(row: Mapping[str, Any]) -> Target | None:
    """The target of a row of results; `None` for a method that pursues none."""
    if row.get("target_macs") is not None:
        return Target(row["target_macs"], of_macs=True)
    return None if row["target_sparsity"] is None else Target(row["target_sparsity"])


def target_keys(target: Target | None) -> dict[str, float | None]:
    """`target_sparsity target_macs` of a row of results, of which one at most is not null."""
    macs = target is not None and target.of_macs
    share = None if target is None else target.share
    return {"target_sparsity": None if macs else share, "target_macs": share if macs else None}


def target_text(row: Mapping[str, Any]) -> str:
    """The target of a row of results in words, a dash where there is none."""
    target = target_of(row)
    return "–" if target is None else target.text


class Cell(Section):
    """One run of the grid.

    Attributes:
        method: Registered name.
        target_sparsity: The sparsity asked for; `None` for a method that pursues none.
        seed: Of everything random.
        width: Of the network; `None` for that of the recipe.
        options: Of the method, by name, where they are others than the recipe's.
    """

    method: str
    target_sparsity: OpenFraction | None
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    width: Annotated[int, Field(gt=0)] | None = None
    options: tuple[tuple[str, Scalar], ...] = ()

    @property
    def series(self) -> str:
        """What results call the method: with its width, if there is one, `adabreg-w256`."""
        return series_name(self.method, self.width)

    @property
    def label(self) -> str:
        """Method and target, as in a gate: `adabreg@0.9`."""
        return cell_label(self.series, target_of({"target_sparsity": self.target_sparsity}))

    @property
    def name(self) -> str:
        """The name of the run directory, such as `adabreg-0.9-seed0` or `gmp-0.9-seed0-lr=0.01`."""
        own = "".join(f"-{option}={value}" for option, value in self.options)
        return f"{self.label.replace('@', '-')}-seed{self.seed}{own}"


def series_name(method: str, width: int | None) -> str:
    """The name of a method among others that were trained at other widths."""
    return method if width is None else f"{method}-w{width}"


def method_of(row: Mapping[str, Any]) -> str:
    """The method of a row of results without the width that `series_name` may have added."""
    return str(row["method"]).removesuffix(series_name("", row.get("width")))


def cell_label(method: str, target: Target | None) -> str:
    """Method and target, as in a gate: `adabreg@0.9`, or `dense` without a target."""
    return method if target is None else f"{method}@{target.name}"


def label_of(row: Mapping[str, Any]) -> str:
    """Method and target of a row of results."""
    return cell_label(row["method"], target_of(row))


def grid(
    methods: Iterable[str],
    targets: Sequence[float],
    seeds: Sequence[int],
    widths: Sequence[int | None] = (None,),
) -> list[Cell]:
    """All runs, seed by seed, so that a first result for everything comes early.

    A method that pursues no target is run once per seed and width.

    Raises:
        SparsifyError: A method is unknown, or a target, seed or width is out of range.
    """
    cells = []
    axes = (dict.fromkeys(seeds), dict.fromkeys(widths), dict.fromkeys(methods))
    for seed, width, method in product(*axes):
        own = dict.fromkeys(targets) if pursues_target(method) else [None]
        for target in own:
            content = {"method": method, "target_sparsity": target, "seed": seed, "width": width}
            cells.append(validate(Cell, content, "comparison"))
    return cells
