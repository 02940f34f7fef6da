"""ReWA: weights that are powers, so that decay makes small ones vanish (arXiv 2605.25134)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

_OURS = ("power", "gradient_power", "smoothing")


class _ReWA(Optimizer):
    """Steps of another optimizer on `y`, where the weight is `x = sign(y)·|y|^K`.

    `y` follows `∂L/∂x·u/(u + ε)·|y|^M` with `u = K·|y|^(K−1)`, and the weight decay is that of `y`.
    A small weight hardly moves, since the power makes little of a step of `y`, but decays as fast
    as a large one. So weights that the loss does not need become tiny; they become exactly zero by
    a threshold, which is left to the caller.

    With K = 1, M = 0 and ε = 0 a group moves as in the plain optimizer. Each group may have its own
    `power`, `gradient_power` and `smoothing`; biases and norms usually stay plain.

    The state `latent` of a weight is `y`. It is made of the weight at its first step and then leads
    the weight: after writing into weights call `reset_latents`.
    """

    def __init__(
        self,
        params: Any,
        *args: Any,
        power: float = 2.25,
        gradient_power: float = 1.25,
        smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self._ours = dict(zip(_OURS, (power, gradient_power, smoothing), strict=True))
        super().__init__(params, *args, **kwargs)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters, with hyperparameters of their own where given.

        Raises:
            ValueError: A hyperparameter is out of range.
        """
        group = {**self._ours, **param_group}
        if not group["power"] > 0:
            raise ValueError(f"power must be positive: {group['power']}")
        for name in ("gradient_power", "smoothing"):
            if not group[name] >= 0:
                raise ValueError(f"{name} must not be negative: {group[name]}")
        super().add_param_group(group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates the weights.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moved = []
        for group in self.param_groups:
            if all(group[name] == plain for name, plain in zip(_OURS, (1, 0, 0), strict=True)):
                continue
            for weight in group["params"]:
                if weight.grad is not None:
                    moved.append((group, weight, weight.grad))
                    weight.copy_(self._latent(group, weight))
                    weight.grad = weight.grad * _factor(group, weight)
        super().step()
        for group, weight, gradient in moved:
            self.state[weight]["latent"] = weight.detach().clone()
            weight.copy_(_signed_power(weight, group["power"]))
            weight.grad = gradient
        return loss

    def reset_latents(self) -> None:
        """Starts `y` anew from the present weights."""
        for state in self.state.values():
            state.pop("latent", None)

    def _latent(self, group: dict[str, Any], weight: Tensor) -> Tensor:
        latent = self.state[weight].get("latent") if weight in self.state else None
        return _signed_power(weight, 1 / group["power"]) if latent is None else latent


class ReWASGD(_ReWA, SGD):
    """ReWA with `torch.optim.SGD` inside, which takes all other arguments."""


class ReWAAdamW(_ReWA, AdamW):
    """ReWA with `torch.optim.AdamW` inside, which takes all other arguments."""


def _signed_power(values: Tensor, power: float) -> Tensor:
    """`sign(y)·|y|^K`; adding zero turns the −0.0 of tiny negative numbers into +0.0."""
    return values.sign() * values.abs() ** power + 0.0


def _factor(group: dict[str, Any], latent: Tensor) -> Tensor:
    """`u/(u + ε)·|y|^M` with `u = K·|y|^(K−1)`."""
    size = latent.abs()
    factor = size ** group["gradient_power"]
    if not group["smoothing"]:
        return factor
    slope = group["power"] * size ** (group["power"] - 1)
    # For K < 1 the slope at 0 is infinite, and the quotient 1.
    return factor / (1 + group["smoothing"] / slope)
