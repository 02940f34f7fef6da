"""AdaBreg: the Bregman iteration with Adam's step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sparsify.optim.bregman import BregmanOptimizer, Moments
from sparsify.optim.dual_optimizer import LambdaChange
from sparsify.optim.lambda_rules import LambdaRule
from sparsify.optim.regularizers import Tensors
from sparsify.optim.sparse_optimizer import Groups
from sparsify.optim.state import precise
from sparsify.optim.step_plans import SlotBatch


class AdaBreg(BregmanOptimizer):
    """Bregman iteration with Adam's update of the dual.

    `v ← v − τ·m̂/(√ŝ + ε)`, `w ← prox(δ·v)`. With λ = 0 and δ = 1 this is AdamW (Bungert et al.,
    JMLR 23(192), 2022).

    Args:
        params: Parameters or groups, see `parameter_groups`.
        lr: Step size τ.
        betas: Decay rates of the moments of the gradient.
        eps: Added to the denominator.
        weight_decay: Decoupled decay μ, `v ← v − τμ·w`.
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
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 1.0,
        lambda_rule: LambdaRule | None = None,
        *,
        lambda_change: LambdaChange = "keep_dual",
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "delta": delta,
        }
        super().__init__(params, defaults, lambda_rule, lambda_change, fused)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas must be two numbers in [0, 1): {group['betas']}")
        if not 0 <= group["eps"] < math.inf:
            raise ValueError(f"eps must not be negative: {group['eps']}")

    def _prepare(self, group: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
        state = super()._prepare(group, parameter)
        if "exp_avg" not in state:
            state["step"] = torch.zeros(())  # on the host, as in torch.optim
            # In half precision the squares of small gradients, and ε, would be zero.
            state["exp_avg"] = precise(torch.zeros_like(parameter))
            state["exp_avg_sq"] = precise(torch.zeros_like(parameter))
        return state

    def _moments(self, group: dict[str, Any], state: dict[str, Any]) -> Moments:
        return state["exp_avg"], state["exp_avg_sq"], state["step"]

    def _updates(self, group: dict[str, Any], batch: SlotBatch, gradients: Tensors) -> Tensors:
        beta1, beta2 = group["betas"]
        torch._foreach_add_(batch.steps, 1)
        steps = [float(count) for count in batch.steps]
        torch._foreach_lerp_(batch.first, gradients, 1 - beta1)
        torch._foreach_mul_(batch.second, beta2)
        torch._foreach_addcmul_(batch.second, gradients, gradients, 1 - beta2)
        denominators = torch._foreach_sqrt(batch.second)
        torch._foreach_div_(denominators, [(1 - beta2**count) ** 0.5 for count in steps])
        torch._foreach_add_(denominators, group["eps"])
        updates = torch._foreach_div(batch.first, denominators)
        torch._foreach_mul_(updates, [group["lr"] / (1 - beta1**count) for count in steps])
        if group["weight_decay"]:
            decay = group["lr"] * group["weight_decay"]
            torch._foreach_add_(updates, batch.weights, alpha=decay)
        return updates
