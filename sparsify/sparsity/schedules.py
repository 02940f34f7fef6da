"""How much sparsity is wanted at which step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class SparsitySchedule(Protocol):
    """The sparsity wanted after a number of steps."""

    def __call__(self, step: int) -> float | Tensor:
        """The sparsity wanted after `step` steps; a tensor is 0-dim."""


@dataclass(frozen=True)
class Constant:
    """The same sparsity all the time."""

    sparsity: float

    def __call__(self, step: int) -> float:
        """`sparsity`, whatever the step."""
        return self.sparsity


@dataclass(frozen=True)
class Polynomial:
    """`s_t = s_f + (s_i − s_f)·(1 − (t − t₀)/(t₁ − t₀))^p` (Zhu & Gupta 2018, where p = 3).

    Attributes:
        initial: Sparsity `s_i` up to step `begin`.
        final: Sparsity `s_f` from step `end`.
        begin: Step `t₀`.
        end: Step `t₁`.
        power: Exponent `p`; 1 is a linear ramp.
    """

    initial: float
    final: float
    begin: int
    end: int
    power: float = 3.0

    def __call__(self, step: int) -> float:
        """The sparsity `s_t`."""
        if step >= self.end:
            return self.final
        share = max(step - self.begin, 0) / (self.end - self.begin)
        return self.final + (self.initial - self.final) * (1 - share) ** self.power


@dataclass
class Ramp:
    """`Polynomial` from the sparsity that the weights have when the steering begins.

    That is measured where the weights are, as a tensor, so that nobody waits for it.

    Attributes:
        final: Sparsity at the end.
        steps: Length of the ramp.
        power: Exponent; 1 is a linear ramp.
        begin: The step before the first; negative until the steering begins.
        initial: Sparsity at `begin`, 0-dim.
    """

    final: float
    steps: int
    power: float = 3.0
    begin: int = -1
    initial: Tensor = field(default_factory=lambda: torch.tensor(torch.nan, dtype=torch.float64))

    def __call__(self, step: int) -> float | Tensor:
        """The sparsity after `step` steps.

        Raises:
            RuntimeError: The steering has not begun.
        """
        if self.begin < 0:
            raise RuntimeError("a ramp has no sparsity before the first step of its optimizer")
        left = Polynomial(1.0, 0.0, self.begin, self.begin + self.steps, self.power)(step)
        return self.final + (self.initial - self.final) * left if left else self.final
