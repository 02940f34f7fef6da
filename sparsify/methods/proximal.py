"""Proximal gradient descent on an ℓ1 penalty, with λ steered to the target."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import torch
from pydantic import Field

from sparsify.methods.base import Task, decay_groups
from sparsify.methods.masked import PrunedOnce
from sparsify.optim.lambda_rules import AdaptiveLambda, FixedLambda, LambdaRule
from sparsify.optim.prescribed import lambda_leaving
from sparsify.optim.proximal import ProxSGD
from sparsify.optim.regularizers import parameter_groups
from sparsify.recipe.validation import Fraction, Section
from sparsify.sparsity.allocation import Allocation
from sparsify.sparsity.costs import PricedWeights, spread
from sparsify.sparsity.schedules import Polynomial

_BOUNDS = (1e-9, 1e3)


class ProximalOptions(Section):
    """ProxSGD's hyperparameters.

    Attributes:
        lr: Peak step size τ.
        momentum: Exponential average of the gradient.
        landing: Share of training after which the support is held at exactly the target, without
            any penalty.
    """

    lr: float = Field(default=1.0, gt=0)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    landing: Fraction = 0.75


P = TypeVar("P", bound=ProximalOptions)


class ProximalMethod(PrunedOnce[P], Generic[P]):
    """ProxSGD until the landing, which keeps the largest weights and lifts the penalty.

    If too few weights are nonzero by then, those where the gradient is largest join them.
    """

    revives = True
    optimizer: ProxSGD

    def __init__(self, task: Task, options: P, groups: list[dict[str, Any]], rule: LambdaRule):
        groups = [*groups, {"params": list(task.head.parameters()), "regularizer": None}]
        optimizer = ProxSGD(decay_groups(groups), options.lr, options.momentum, lambda_rule=rule)
        optimizer.weigh(task.priced().by_weight)
        landing_step = max(round(options.landing * task.steps), 1)
        super().__init__(task, options, optimizer, landing_step)

    @property
    def lam(self) -> float:
        """λ now."""
        return self.optimizer.lam

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        if state["pruned"]:
            self._lift_penalty()
        super().load_state_dict(state)

    def _lift_penalty(self) -> None:
        self.optimizer.lambda_rule = FixedLambda(0.0)
        self.optimizer.lam = 0.0

    def _support(self, allocation: Allocation) -> None:
        """Chooses the weights that stay, brings those of them to life that are zero."""
        self._lift_penalty()
        self._prune(self.target_sparsity, allocation)
        self._revive()


class ProxSGDOptions(ProximalOptions):
    """ProxSGD's hyperparameters, and how λ is steered.

    Attributes:
        ramp: Share of training in which the wanted sparsity goes from that of the start to the
            target.
        ramp_power: Shape of the ramp: 3 is cubic, 1 linear.
        lambda_value: First λ; when not given, the one that would bring the network to the target by
            the end of the ramp if there were no gradients.
        alpha: Strength of the adaptive rule.
        damping: What the adaptive rule multiplies alpha by when the sign of the gap changes.
        every: Steps between two updates of λ.
    """

    ramp: Fraction = 0.5
    ramp_power: float = Field(default=1.0, gt=0)
    lambda_value: float | None = Field(default=None, gt=0)
    alpha: float = Field(default=1.0, gt=0)
    damping: float = Field(default=1.0, gt=0, le=1)
    every: int = Field(default=5, ge=1)


class ProxSGDMethod(ProximalMethod[ProxSGDOptions]):
    """Proximal SGD; λ follows the rule of arXiv 2605.07892, as nothing gives its quantile."""

    Options = ProxSGDOptions

    def __init__(self, task: Task, options: ProxSGDOptions) -> None:
        groups = parameter_groups(task.network, None, *task.selection)
        priced = task.priced()
        end = max(round(options.ramp * task.steps), 1)
        self.schedule = Polynomial(
            priced.sparsity, task.target_sparsity, 0, end, options.ramp_power
        )
        rule = AdaptiveLambda(
            self.schedule,
            options.alpha,
            options.every,
            initial=options.lambda_value
            or _first_lambda(priced, task.target_sparsity, options.lr * end),
            damping=options.damping,
            bounds=_BOUNDS,
        )
        super().__init__(task, options, groups, rule)

    def sparsity_target(self, step: int) -> float:
        """The ramp, then the target."""
        return self.schedule(step)

    def _choose_support(self) -> None:
        self._support("global")


def _first_lambda(priced: PricedWeights, sparsity: float, path: float) -> float:
    """The λ that zeroes a share of the weights on a path, which is the sum of the step sizes."""
    sizes = torch.cat([weight.detach().flatten() for weight in priced.weights])
    costs = spread(priced.costs, priced.weights)
    found = lambda_leaving(sizes, priced.kept(sparsity), costs) / path
    return min(max(found, _BOUNDS[0]), _BOUNDS[1])
