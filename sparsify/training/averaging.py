"""The average of the weights of several validated models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor


class Finalists:
    """Which validated models are to be averaged.

    Args:
        count: How many.
        of: The `last` ones or the `best` ones, the later of equals.

    Attributes:
        errors: Their errors by step, in the order of the steps.
    """

    def __init__(self, count: int, of: Literal["last", "best"]) -> None:
        self.count = count
        self.of = of
        self.errors: dict[int, float] = {}

    def takes(self, step: int, error: float) -> bool:
        """Takes a model, which may push out another; tells whether."""
        if self.count < 2:
            return False
        self.errors[step] = error
        if len(self.errors) > self.count:
            last = self.of == "last"
            worst = min(self.errors, key=lambda s: (0.0 if last else -self.errors[s], s))
            del self.errors[worst]
        return step in self.errors


def average_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor, computed in float64; integers are those of the last state.

    Where a weight is zero in all states it is zero in the mean: models that have landed on the same
    zeros keep them.
    """
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(last.dtype)
        if last.is_floating_point()
        else last
        for name, last in states[-1].items()
    }


def same_zeros(states: Mapping[int, Mapping[str, Tensor]], names: Iterable[str]) -> list[int]:
    """Those steps in whose state the named tensors are zero exactly where they are in the last."""
    names, last = list(names), states[max(states)]
    return [
        step
        for step, state in states.items()
        if all(torch.equal(state[name] == 0, last[name] == 0) for name in names)
    ]
