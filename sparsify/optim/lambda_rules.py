"""How the regularisation weight λ is chosen: what every rule is, and the rule of a given λ.

All rules work on 0-dim tensors where the parameters live, so that no step waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class Quantile(Protocol):
    """Gives the λ at which the network would have a sparsity now, 0-dim."""

    def __call__(self, sparsity: float | Tensor, near: Tensor | None = None, /) -> Tensor:
        """The smallest such λ, or the one nearest to `near`."""


@dataclass(frozen=True)
class Start:
    """The regularised weights before the first step.

    Attributes:
        sparsity: Their share of exact zeros, 0-dim.
        size: Mean of `|w|/δ` over those that are not zero, in units of λ, 0-dim; 0 without any.
        count: Their number.
    """

    sparsity: Tensor
    size: Tensor
    count: int


class LambdaRule:
    """Chooses λ; the optimizer asks before and after the prox of every step that is due.

    A rule belongs to one optimizer, which saves and restores its state.

    Args:
        every: Steps between two updates of λ, and between two measurements of the sparsity.

    Raises:
        ValueError: `every` is not positive.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1: {every}")
        self.every = every

    @property
    def initial(self) -> float:
        """λ at the first step, 0 where the rule will find it."""
        return 0.0

    @property
    def begun(self) -> bool:
        """Whether the rule steers already, or need not be told when it begins to."""
        return True

    def begin(self, lam: Tensor, start: Callable[[], Start], step: int) -> Tensor:
        """λ before the first step in which there are weights to steer.

        Args:
            lam: λ so far, 0-dim.
            start: Looks at the weights before the step.
            step: Number of the step.
        """
        return lam

    def due(self, step: int) -> bool:
        """Whether λ is updated and the sparsity measured in this step (the first is 1)."""
        return step % self.every == 0

    def needs_quantile(self, step: int) -> bool:
        """Whether `before_prox` sets λ in this step."""
        return False

    def before_prox(self, lam: Tensor, quantile: Quantile, step: int) -> Tensor:
        """λ for the prox of this step.

        Args:
            lam: λ so far, 0-dim.
            quantile: The λ that gives a sparsity, for the duals of this step.
            step: Number of this step, from 1.
        """
        return lam

    def after_prox(self, lam: Tensor, sparsity: Tensor, step: int) -> Tensor:
        """λ for the next step, from the sparsity measured now (0-dim, in [0, 1])."""
        return lam

    def state_dict(self) -> dict[str, Any]:
        """What the rule remembers from step to step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""


class FixedLambda(LambdaRule):
    """λ stays as it is given: the classical Bregman iteration.

    Args:
        value: λ.
        every: Steps between two measurements of the sparsity.

    Raises:
        ValueError: λ is negative.
    """

    def __init__(self, value: float, every: int = 10) -> None:
        super().__init__(every)
        if not value >= 0:
            raise ValueError(f"λ must not be negative: {value}")
        self.value = value

    @property
    def initial(self) -> float:
        """The given λ."""
        return self.value
