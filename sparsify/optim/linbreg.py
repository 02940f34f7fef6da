"""LinBreg: the linearised Bregman iteration with momentum."""

from __future__ import annotations

from typing import Any

import torch

from sparsify.optim.bregman import BregmanOptimizer, Moments
from sparsify.optim.dual_optimizer import LambdaChange
from sparsify.optim.lambda_rules import LambdaRule
from sparsify.optim.regularizers import Tensors
from sparsify.optim.sparse_optimizer import Groups
from sparsify.optim.step_plans import SlotBatch


class LinBreg(BregmanOptimizer):
    """Linearised Bregman iteration, with momentum as an exponential average.

    `m ← β·m + (1 − β)·τ·g`, `v ← v − m`, `w ← prox(δ·v)`; with Nesterov's momentum
    `v ← v − (β·m + (1 − β)·τ·g)`. With λ = 0, δ = 1 and constant τ this is SGD with learning rate
    τ(1 − β) and momentum β (Bungert et al., JMLR 23(192), 2022).

    Args:
        params: Parameters or groups, see `parameter_groups`.
        lr: Step size τ.
        momentum: β in [0, 1).
        weight_decay: Coupled decay μ, `g + μ·w`.
        nesterov: Looks ahead by one step of the momentum.
        delta: Elastic-net parameter δ.
        lambda_rule: Chooses λ; without one λ is 0 until `lam` is set.
        lambda_change: What stays when λ moves, see `LambdaChange`.
        fused: Computes in C; by default wherever that is possible.

    Raises:
        ValueError: A hyperparameter is out of range, or there is a rule and no group with a
            regularizer.
    """

    def __init__(
        self,
        params: Groups,
        lr: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        delta: float = 1.0,
        lambda_rule: LambdaRule | None = None,
        *,
        lambda_change: LambdaChange = "keep_dual",
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "delta": delta,
        }
        super().__init__(params, defaults, lambda_rule, lambda_change, fused)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if group["nesterov"] and not group["momentum"]:
            raise ValueError("nesterov needs a momentum above 0")

    def _moments(self, group: dict[str, Any], state: dict[str, Any]) -> Moments:
        return state["momentum_buffer"] if group["momentum"] else None, None, None

    def _updates(self, group: dict[str, Any], batch: SlotBatch, gradients: Tensors) -> Tensors:
        beta = group["momentum"]
        if group["weight_decay"]:
            gradients = torch._foreach_add(gradients, batch.weights, alpha=group["weight_decay"])
        updates = torch._foreach_mul(gradients, (1 - beta) * group["lr"])
        if not beta:
            return updates
        torch._foreach_mul_(batch.first, beta)
        torch._foreach_add_(batch.first, updates)
        if group["nesterov"]:
            return torch._foreach_add(updates, batch.first, alpha=beta)
        return batch.first
