"""AdaBreg: the Bregman iteration with Adam's step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparsify.optim.bregman import BregmanOptimizer, LambdaChange
from sparsify.optim.lambda_rules import LambdaRule
from sparsify.optim.slots import Slot, precise
from sparsify.optim.sparse_optimizer import Groups


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
        foreach: Computes all tensors of a group at once; by default on GPUs.
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
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "delta": delta,
        }
        super().__init__(params, defaults, lambda_rule, lambda_change, foreach, fused)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas must lie in [0, 1): {group['betas']}")
        if not group["eps"] >= 0:
            raise ValueError(f"eps must not be negative: {group['eps']}")

    def _prepare(self, group: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
        state = super()._prepare(group, parameter)
        if "exp_avg" not in state:
            state["step"] = torch.zeros(())  # on the host, as in torch.optim
            # In half precision the squares of small gradients, and ε, would be zero.
            state["exp_avg"] = precise(torch.zeros_like(parameter))
            state["exp_avg_sq"] = precise(torch.zeros_like(parameter))
        return state

    def _moments(self, state: dict[str, Any]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return state["exp_avg"], state["exp_avg_sq"], state["step"]

    def _update(self, group: dict[str, Any], slot: Slot, gradient: Tensor) -> Tensor:
        assert slot.first is not None
        assert slot.second is not None
        (first, second), steps = group["betas"], _steps(slot)
        gradient = precise(gradient)
        slot.first.lerp_(gradient, 1 - first)
        slot.second.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        step_size = group["lr"] / (1 - first**steps)
        denominator = slot.second.sqrt().div_((1 - second**steps) ** 0.5).add_(group["eps"])
        update = (slot.first / denominator).mul_(step_size)
        if group["weight_decay"]:
            update.add_(slot.weight, alpha=group["lr"] * group["weight_decay"])
        return update

    def _updates(
        self, group: dict[str, Any], slots: Sequence[Slot], gradients: list[Tensor]
    ) -> Sequence[Tensor]:
        (first, second), steps = group["betas"], [_steps(slot) for slot in slots]
        gradients = [precise(gradient) for gradient in gradients]
        averages = [slot.first for slot in slots if slot.first is not None]
        squares = [slot.second for slot in slots if slot.second is not None]
        torch._foreach_lerp_(averages, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        denominators = list(torch._foreach_sqrt(squares))
        torch._foreach_div_(denominators, [(1 - second**count) ** 0.5 for count in steps])
        torch._foreach_add_(denominators, group["eps"])
        updates = list(torch._foreach_div(averages, denominators))
        torch._foreach_mul_(updates, [group["lr"] / (1 - first**count) for count in steps])
        if group["weight_decay"]:
            weights = [slot.weight for slot in slots]
            torch._foreach_add_(updates, weights, alpha=group["lr"] * group["weight_decay"])
        return updates

    def _hyper(self, group: dict[str, Any]) -> dict[str, Any]:
        return {
            "rule": "adam",
            "lr": float(group["lr"]),
            "decay": group["weight_decay"],
            "betas": tuple(group["betas"]),
            "epsilon": group["eps"],
        }


def _steps(slot: Slot) -> float:
    assert slot.steps is not None
    return float(slot.steps)
