"""LinBreg: the linearised Bregman iteration with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparsify.optim.bregman import BregmanOptimizer, LambdaChange
from sparsify.optim.lambda_rules import LambdaRule
from sparsify.optim.slots import Slot, precise
from sparsify.optim.sparse_optimizer import Groups


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
        foreach: Computes all tensors of a group at once; by default on GPUs.
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
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "delta": delta,
        }
        super().__init__(params, defaults, lambda_rule, lambda_change, foreach, fused)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"momentum must lie in [0, 1): {group['momentum']}")
        if group["nesterov"] and not group["momentum"]:
            raise ValueError("nesterov needs a momentum above 0")

    def _prepare(self, group: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
        state = super()._prepare(group, parameter)
        if group["momentum"] and "momentum_buffer" not in state:
            state["momentum_buffer"] = precise(torch.zeros_like(parameter))
        return state

    def _moments(self, state: dict[str, Any]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return state.get("momentum_buffer"), None, None

    def _update(self, group: dict[str, Any], slot: Slot, gradient: Tensor) -> Tensor:
        beta = group["momentum"]
        gradient = precise(gradient)
        if group["weight_decay"]:
            gradient = gradient.add(slot.weight, alpha=group["weight_decay"])
        update = gradient * ((1 - beta) * group["lr"])
        if not beta:
            return update
        assert slot.first is not None
        slot.first.mul_(beta).add_(update)
        return update.add_(slot.first, alpha=beta) if group["nesterov"] else slot.first

    def _updates(
        self, group: dict[str, Any], slots: Sequence[Slot], gradients: list[Tensor]
    ) -> Sequence[Tensor]:
        beta = group["momentum"]
        gradients = [precise(gradient) for gradient in gradients]
        if group["weight_decay"]:
            weights = [slot.weight for slot in slots]
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        updates = list(torch._foreach_mul(gradients, (1 - beta) * group["lr"]))
        if not beta:
            return updates
        momenta = [slot.first for slot in slots if slot.first is not None]
        torch._foreach_mul_(momenta, beta)
        torch._foreach_add_(momenta, updates)
        return torch._foreach_add(updates, momenta, alpha=beta) if group["nesterov"] else momenta

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        rule = "nesterov" if group["nesterov"] else "momentum" if group["momentum"] else "plain"
        return {
            "rule": rule,
            "lr": float(group["lr"]),
            "decay": group["weight_decay"],
            "betas": (group["momentum"], 0.0),
            "epsilon": 0.0,
        }
