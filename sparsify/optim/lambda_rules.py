"""How the regularisation weight λ is chosen.

All rules work on 0-dim tensors where the parameters live, so that no step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sparsify.sparsity.schedules import Constant, Ramp, SparsitySchedule

_GLIDE = 0.1  # of a ramp


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
        if every < 1 or every != int(every):
            raise ValueError(f"every must be a whole number, at least 1: {every}")
        self.every = int(every)

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
        if not 0 <= value < math.inf:
            raise ValueError(f"λ must be finite and not negative: {value}")
        self.value = value

    @property
    def initial(self) -> float:
        """The given λ."""
        return self.value


class _TargetRule(LambdaRule):
    """A rule that pursues a sparsity, all the time or on a ramp to it.

    On a ramp λ starts from where the weights are. The duals of zeros start at 0 and those of other
    weights beyond λ, `v = w/δ + λ·∂R(w)`, so that every λ gives a sparse start back; but if it is
    small, the first steps carry most zeros past it. The scale of the duals is that of the weights:
    their mean size is taken. From then on, of all λ that give the wanted sparsity the nearest to
    the last is the right one: between the duals of a sparse start's zeros and of its weights lies a
    gap, and the quantile itself, its lower end, would leave the zeros no room, and all weights
    would change by as much as λ falls. Where the smallest weights are gone, as magnitude pruning
    leaves it, the first zero that is added costs all weights as much as the smallest has: λ glides
    there, in the first tenth of the ramp.
    """

    def __init__(self, target: float | SparsitySchedule, every: int, ramp: int) -> None:
        super().__init__(every)
        self.target = _schedule(target, ramp)
        self._first = 0

    @property
    def first(self) -> int:
        """The step in which the steering begins."""
        return max(self._first, 1)

    @property
    def begun(self) -> bool:
        """Whether there have been weights to steer."""
        return self._first > 0

    def begin(self, lam: Tensor, start: Callable[[], Start], step: int) -> Tensor:
        """On a ramp without a given λ that of a sparse start; λ as it is for any other start."""
        self._first = step
        if not isinstance(self.target, Ramp):
            return lam
        weights = start()
        self.target.begin, self.target.initial = step - 1, weights.sparsity.clone()
        if self.initial:
            return lam
        most = self.target.final + 0.5 / weights.count  # within half a weight: counts are whole
        sparse = (weights.sparsity > 0) & (weights.sparsity <= most)
        return torch.where(sparse, weights.size.to(lam), lam)

    def state_dict(self) -> dict[str, Any]:
        """When the steering began, and at which sparsity the ramp."""
        state: dict[str, Any] = {"first": self._first}
        if isinstance(self.target, Ramp):
            state["ramp_initial"] = self.target.initial.clone()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`; after the state of another rule the steering begins anew."""
        self._first = state.get("first", 0)
        if isinstance(self.target, Ramp):
            self._first = self._first if "ramp_initial" in state else 0
            self.target.begin = self._first - 1
            self.target.initial = state.get("ramp_initial", self.target.initial)

    def _wanted(self, lam: Tensor, quantile: Quantile, step: int, since: int) -> Tensor:
        """The λ that gives the sparsity wanted in a step, some steps since λ was last updated."""
        ramp = self.target
        if not isinstance(ramp, Ramp):
            return quantile(ramp(step)).to(lam)
        ramp.initial = ramp.initial.to(lam)  # it may have been loaded
        wanted = quantile(ramp(step), lam).to(lam)
        left = round(_GLIDE * ramp.steps) - (step - ramp.begin)
        if left <= 0:
            return wanted
        still = quantile(ramp.initial, lam).to(lam)
        gliding = still + (wanted - still) * (since / (left + since))
        return torch.where(ramp.initial > 0, gliding, wanted)


class QuantileLambda(_TargetRule):
    """λ is the wanted quantile of the thresholds, so the target is met at every update.

    The sparsity as a function of λ is the empirical distribution of the thresholds (`|v|` for ℓ1),
    so `λ = Q_s(thresholds)` gives `#{|v| < λ} ≤ zeros ≤ #{|v| ≤ λ}`. With smoothing λ follows the
    quantile geometrically, `λ ← λ^ρ·Q^(1−ρ)`, and so moves less from one update to the next.

    Args:
        target_sparsity: A number in (0, 1), or a schedule of them over steps.
        every: Steps between two updates.
        smoothing: ρ in [0, 1); 0 takes the quantile itself.
        ramp: Steps in which the wanted sparsity goes, on a cubic curve, from that of the weights at
            the first step to the target: for a start from a trained network, dense or sparse. 0
            wants the target at once.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        target_sparsity: float | SparsitySchedule,
        every: int = 10,
        smoothing: float = 0.0,
        ramp: int = 0,
    ) -> None:
        super().__init__(target_sparsity, every, ramp)
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1): {smoothing}")
        self.smoothing = smoothing

    def due(self, step: int) -> bool:
        """At the first step too: there is no λ before it."""
        return step == self.first or super().due(step)

    def needs_quantile(self, step: int) -> bool:
        """Whenever λ is updated."""
        return self.due(step)

    def before_prox(self, lam: Tensor, quantile: Quantile, step: int) -> Tensor:
        """The quantile of the thresholds, or λ moved towards it."""
        since = min(self.every, step - self.first + 1)
        wanted = self._wanted(lam, quantile, step, since)
        if not self.smoothing:
            return wanted
        # Geometric means cannot leave zero, where λ starts and where it may have to go.
        follows = (lam > 0) & (wanted > 0)
        mixed = lam**self.smoothing * wanted ** (1 - self.smoothing)
        return torch.where(follows, mixed, wanted)


class AdaptiveLambda(_TargetRule):
    """The multiplicative rule of arXiv 2605.07892.

    With `gap = s* − s` after every `every`-th step: `λ ← λ·(1 + α·|gap|)` if the network is not yet
    sparse enough, `λ ← λ/(1 + α·|gap|)` if it is too sparse, clamped to the bounds. With damping
    `α = α₀·γ^max(C − 1, 0)`, where C counts how often the gap has changed its sign.

    Args:
        target_sparsity: A number in (0, 1), or a schedule of them over steps.
        alpha: Strength `α₀` of the correction.
        every: Steps `f` between two updates.
        initial: λ at the first step. `None` calibrates it: during `warmup` steps λ is the quantile
            that gives the wanted sparsity, and the rule goes on from there. The scale of λ depends
            on optimizer, learning rate and network, so that no constant serves them all.
        warmup: Steps of calibration when `initial` is `None`.
        damping: γ in (0, 1]; 1 does not damp.
        bounds: Smallest and largest λ.
        ramp: Steps in which the wanted sparsity goes, on a cubic curve, from that of the weights at
            the first step to the target: for a start from a trained network, dense or sparse. The
            calibration lasts as long. 0 wants the target at once.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        target_sparsity: float | SparsitySchedule,
        alpha: float = 1.0,
        every: int = 10,
        initial: float | None = None,
        warmup: int = 10,
        damping: float = 1.0,
        bounds: tuple[float, float] = (1e-6, 1e3),
        ramp: int = 0,
    ) -> None:
        super().__init__(target_sparsity, every, ramp)
        if not alpha > 0:
            raise ValueError(f"alpha must be positive: {alpha}")
        if not 0 < damping <= 1:
            raise ValueError(f"damping must lie in (0, 1]: {damping}")
        if not 0 < bounds[0] <= bounds[1] < math.inf:
            raise ValueError(f"bounds must be positive, finite and ascending: {bounds}")
        if initial is not None and not bounds[0] <= initial <= bounds[1]:
            raise ValueError(f"initial must lie within the bounds {bounds}: {initial}")
        if initial is None and warmup < 1:
            raise ValueError(f"warmup must be at least 1 where initial is not given: {warmup}")
        self.alpha = alpha
        self.damping = damping
        self.bounds = bounds
        self._initial = initial
        self.warmup = warmup if initial is None else 0
        if initial is None and isinstance(self.target, Ramp):
            self.warmup = max(warmup, self.target.steps)
        self._sign = torch.zeros(())  # of the last gap that was not zero
        self._sign_changes = torch.zeros(())

    @property
    def initial(self) -> float:
        """The given λ, or 0 when the calibration will find it."""
        return self._initial or 0.0

    def due(self, step: int) -> bool:
        """In every step of the calibration, then in every `every`-th."""
        return self.needs_quantile(step) or super().due(step)

    def needs_quantile(self, step: int) -> bool:
        """During calibration."""
        return step < self.first + self.warmup

    def before_prox(self, lam: Tensor, quantile: Quantile, step: int) -> Tensor:
        """The quantile of the thresholds during calibration."""
        if not self.needs_quantile(step):
            return lam
        return self._wanted(lam, quantile, step, since=1).clamp(*self.bounds)

    def after_prox(self, lam: Tensor, sparsity: Tensor, step: int) -> Tensor:
        """λ moved against the gap."""
        if self.needs_quantile(step):
            return lam
        gap = self.target(step) - sparsity.to(lam)
        alpha = self.alpha * self._damped(gap)
        factor = 1 + alpha * gap.abs()
        return torch.where(gap > 0, lam * factor, lam / factor).clamp(*self.bounds)

    def state_dict(self) -> dict[str, Any]:
        """Also the sign of the last gap and the number of its changes."""
        changes = {"sign": self._sign.clone(), "sign_changes": self._sign_changes.clone()}
        return super().state_dict() | changes

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`.

        Raises:
            ValueError: It is the state of another rule.
        """
        if "sign" not in state:
            raise ValueError("the state is that of another λ rule than AdaptiveLambda")
        super().load_state_dict(state)
        self._sign, self._sign_changes = state["sign"], state["sign_changes"]

    def _damped(self, gap: Tensor) -> Tensor | float:
        """`γ^max(C − 1, 0)`, after counting."""
        if self.damping == 1:
            return 1.0
        before, now = self._sign.to(gap), torch.sign(gap)
        self._sign_changes = self._sign_changes.to(gap) + (before * now < 0)
        self._sign = torch.where(now == 0, before, now)
        return self.damping ** (self._sign_changes - 1).clamp(min=0)


def _schedule(target: float | SparsitySchedule, ramp: int) -> SparsitySchedule:
    if ramp < 0:
        raise ValueError(f"ramp must not be negative: {ramp}")
    if not isinstance(target, (int, float)):
        if not callable(target):
            raise ValueError(f"target_sparsity must be a number or a schedule: {target!r}")
        if ramp:
            raise ValueError("ramp needs a number as target_sparsity, which here is a schedule")
        return target
    if not 0 < target < 1:
        raise ValueError(f"target_sparsity must lie in (0, 1): {target}")
    return Ramp(float(target), ramp) if ramp else Constant(float(target))
