"""The cells of the grid that a comparison fills: a method, a target and a seed each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Annotated

from pydantic import Field

from sparsify.methods.registry import pursues_target
from sparsify.recipe.validation import OpenFraction, Section, validate

Scalar = bool | int | float | str


class Cell(Section):
    """One run of the grid.

    Attributes:
        method: Registered name.
        target_sparsity: The sparsity asked for; `None` for a method that pursues none.
        seed: Of everything random.
        options: Of the method, by name, where they are others than the recipe's.
    """

    method: str
    target_sparsity: OpenFraction | None
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    options: tuple[tuple[str, Scalar], ...] = ()

    @property
    def label(self) -> str:
        """Method and target, as in a gate: `adabreg@0.9`."""
        return cell_label(self.method, self.target_sparsity)

    @property
    def name(self) -> str:
        """The name of the run directory, such as `adabreg-0.9-seed0` or `gmp-0.9-seed0-lr=0.01`."""
        own = "".join(f"-{option}={value}" for option, value in self.options)
        return f"{self.label.replace('@', '-')}-seed{self.seed}{own}"


def cell_label(method: str, target: float | None) -> str:
    """Method and target, as in a gate: `adabreg@0.9`, or `dense` without a target."""
    return method if target is None else f"{method}@{target:g}"


def grid(methods: Iterable[str], targets: Sequence[float], seeds: Sequence[int]) -> list[Cell]:
    """All runs, seed by seed, so that a first result for everything comes early.

    A method that pursues no target is run once per seed.

    Raises:
        SparsifyError: A method is unknown, or a target or seed is out of range.
    """
    cells = []
    for seed, method in product(dict.fromkeys(seeds), dict.fromkeys(methods)):
        own = dict.fromkeys(targets) if pursues_target(method) else [None]
        cells += [
            validate(
                Cell, {"method": method, "target_sparsity": target, "seed": seed}, "comparison"
            )
            for target in own
        ]
    return cells
