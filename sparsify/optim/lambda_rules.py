"""How the regularisation weight λ follows the sparsity that is wanted.

All rules work on 0-dim tensors where the parameters live, so that no step waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsify.sparsity.schedules import Constant, SparsitySchedule


class LambdaRule:
    """Chooses λ; the optimizer asks before and after the prox of every `every`-th step.

    Args:
        every: Steps between two updates of λ, and between two measurements of the sparsity.
    """

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1: {every}")
        self.every = every

    @property
    def initial(self) -> float:
        """λ at the first step."""
        return 0.0

    def due(self, step: int) -> bool:
        """Whether λ is updated in this step (the first is 1)."""
        return step % self.every == 0

    def before_prox(self, lam: Tensor, thresholds: Sequence[Tensor], step: int) -> Tensor:
        """λ for the prox of this step.

        Args:
            lam: λ so far, 0-dim.
            thresholds: Per parameter, for each weight the λ from which it is zero.
            step: Number of this step, from 1.
        """
        return lam

    def needs_thresholds(self, step: int) -> bool:
        """Whether `before_prox` looks at the thresholds in this step."""
        return False

    def after_prox(self, lam: Tensor, sparsity: Tensor, step: int) -> Tensor:
        """λ for the next step, from the sparsity measured now (0-dim, in [0, 1])."""
        return lam


class FixedLambda(LambdaRule):
    """λ stays as it is given: the classical Bregman iteration.

    Args:
        value: λ.
        every: Steps between two measurements of the sparsity.
    """

    def __init__(self, value: float, every: int = 10) -> None:
        super().__init__(every)
        if value < 0:
            raise ValueError(f"λ must not be negative: {value}")
        self.value = value

    @property
    def initial(self) -> float:
        """The given λ."""
        return self.value


class QuantileLambda(LambdaRule):
    """λ is the wanted quantile of the thresholds, so the target is met at every update.

    The sparsity as a function of λ is the empirical distribution of the thresholds (`|v|` for ℓ1),
    so `λ = Q_s(thresholds)` gives `#{|v| < λ} ≤ zeros ≤ #{|v| ≤ λ}`.

    Args:
        target_sparsity: A number in (0, 1), or a schedule of them over steps.
        every: Steps between two updates.
    """

    def __init__(self, target_sparsity: float | SparsitySchedule, every: int = 10) -> None:
        super().__init__(every)
        self.target = _schedule(target_sparsity)

    def due(self, step: int) -> bool:
        """At the first step too: there is no λ before it."""
        return step == 1 or super().due(step)

    def needs_thresholds(self, step: int) -> bool:
        """Whenever λ is updated."""
        return self.due(step)

    def before_prox(self, lam: Tensor, thresholds: Sequence[Tensor], step: int) -> Tensor:
        """The quantile of the thresholds."""
        return quantile(thresholds, self.target(step)).to(lam)


class AdaptiveLambda(LambdaRule):
    """The multiplicative rule of arXiv 2605.07892.

    With `gap = s* − s` after every `every`-th step: `λ ← λ·(1 + α·|gap|)` if the network is not yet
    sparse enough, `λ ← λ/(1 + α·|gap|)` if it is too sparse, clamped to the bounds.

    Args:
        target_sparsity: A number in (0, 1), or a schedule of them over steps.
        alpha: Strength `α` of the correction.
        every: Steps `f` between two updates.
        initial: λ at the first step. `None` calibrates it: during `warmup` steps λ is the quantile
            that gives the wanted sparsity, and the rule goes on from there. The scale of λ depends
            on optimizer, learning rate and network, so that no constant serves them all.
        warmup: Steps of calibration when `initial` is `None`.
        bounds: Smallest and largest λ.
    """

    def __init__(
        self,
        target_sparsity: float | SparsitySchedule,
        alpha: float = 1.0,
        every: int = 10,
        initial: float | None = None,
        warmup: int = 10,
        bounds: tuple[float, float] = (1e-6, 1e3),
    ) -> None:
        super().__init__(every)
        if alpha <= 0:
            raise ValueError(f"alpha must be positive: {alpha}")
        self.target = _schedule(target_sparsity)
        self.alpha = alpha
        self.bounds = bounds
        self._initial = initial
        self.warmup = warmup if initial is None else 0

    @property
    def initial(self) -> float:
        """The given λ, or 0 when the calibration will find it."""
        return self._initial or 0.0

    def due(self, step: int) -> bool:
        """In every step of the calibration, then in every `every`-th."""
        return step <= self.warmup or super().due(step)

    def needs_thresholds(self, step: int) -> bool:
        """During calibration."""
        return step <= self.warmup

    def before_prox(self, lam: Tensor, thresholds: Sequence[Tensor], step: int) -> Tensor:
        """The quantile of the thresholds during calibration."""
        if not self.needs_thresholds(step):
            return lam
        return quantile(thresholds, self.target(step)).to(lam).clamp(*self.bounds)

    def after_prox(self, lam: Tensor, sparsity: Tensor, step: int) -> Tensor:
        """λ moved against the gap."""
        if step <= self.warmup:
            return lam
        gap = self.target(step) - sparsity.to(lam)
        factor = 1 + self.alpha * gap.abs()
        return torch.where(gap > 0, lam * factor, lam / factor).clamp(*self.bounds)


def quantile(thresholds: Sequence[Tensor], share: float) -> Tensor:
    """The smallest value that at least `share` of all entries do not exceed, 0-dim.

    Args:
        thresholds: Tensors of any shapes on one device.
        share: In [0, 1].
    """
    values = torch.cat([t.flatten() for t in thresholds])
    rank = min(max(round(share * values.numel()), 1), values.numel())
    return torch.kthvalue(values, rank).values


def _schedule(target: float | SparsitySchedule) -> SparsitySchedule:
    if not isinstance(target, (int, float)):
        return target
    if not 0 < target < 1:
        raise ValueError(f"target_sparsity must lie in (0, 1): {target}")
    return Constant(float(target))
