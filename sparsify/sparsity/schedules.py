"""How much sparsity is wanted at which step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class SparsitySchedule(Protocol):
    """The sparsity wanted after a number of steps."""

    def __call__(self, step: int) -> float:
        """The sparsity wanted after `step` steps."""


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
