"""LinBreg and AdaBreg: linearised Bregman iterations (Bungert et al., JMLR 23(192), 2022).

The state is a dual variable `v ∈ ∂J(w)` of `J(w) = λ·R(w) + ‖w‖²/(2δ)`. A step moves `v` along the
negative gradient and recovers the weights as `w = prox(δ·v)`, so that weights become nonzero only
once their dual has grown past λ.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparsify.optim.lambda_rules import FixedLambda, LambdaRule
from sparsify.sparsity.masks import largest_masks

Groups = Iterable[Tensor] | Iterable[dict[str, Any]]


class SparseOptimizer(Optimizer):
    """What optimizers with a λ share: the rule, the measurement and the checks.

    Attributes:
        lambda_rule: Chooses λ.
    """

    def __init__(self, params: Groups, defaults: dict[str, Any], rule: LambdaRule | None) -> None:
        for name in ("lr", "weight_decay"):
            if defaults[name] < 0:
                raise ValueError(f"{name} must not be negative: {defaults[name]}")
        super().__init__(params, {"regularizer": None, "lambda_scale": 1.0, **defaults})
        self.lambda_rule = rule or FixedLambda(0.0)
        device = self.param_groups[0]["params"][0].device
        self._lam = torch.tensor(self.lambda_rule.initial, dtype=torch.float64, device=device)
        self._sparsity = torch.tensor(float("nan"), dtype=torch.float64, device=device)
        self._steps = 0

    @property
    def lam(self) -> float:
        """λ now; reading it waits for the device."""
        return float(self._lam)

    @lam.setter
    def lam(self, value: float) -> None:
        self._lam = torch.full_like(self._lam, value)

    @property
    def sparsity(self) -> float:
        """Share of exact zeros among the regularised weights, as last measured by the rule."""
        return float(self._sparsity)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates the weights, and λ when that is due.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._steps += 1
        self._advance()
        return loss

    @torch.no_grad()
    def measure_sparsity(self) -> Tensor:
        """Counts the exact zeros of the regularised weights now; 0-dim, without a device sync."""
        nonzero = torch.zeros((), dtype=torch.int64, device=self._lam.device)
        size = 0
        for _, parameter in self._regularised():
            nonzero += torch.count_nonzero(parameter)
            size += parameter.numel()
        self._sparsity = 1 - nonzero.double() / max(size, 1)
        return self._sparsity

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer and its λ rule; holds tensors and plain values only."""
        state = super().state_dict()
        for group in state["param_groups"]:
            del group["regularizer"]
        state["lambda"] = {
            "value": self._lam.clone(),
            "sparsity": self._sparsity.clone(),
            "steps": self._steps,
        }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict()`; regularizers and rule stay those of this optimizer."""
        own = [group["regularizer"] for group in self.param_groups]
        state = dict(state_dict)
        extra = state.pop("lambda")
        super().load_state_dict(state)
        for group, regularizer in zip(self.param_groups, own, strict=True):
            group["regularizer"] = regularizer
        self._lam = extra["value"].to(self._lam)
        self._sparsity = extra["sparsity"].to(self._lam)
        self._steps = extra["steps"]

    @abstractmethod
    def _advance(self) -> None:
        """One step from the gradients that the parameters hold."""

    def _regularised(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for group in self.param_groups:
            if group["regularizer"] is not None:
                for parameter in group["params"]:
                    yield group, parameter


class BregmanOptimizer(SparseOptimizer):
    """The step that LinBreg and AdaBreg share; they differ in how a gradient becomes an update.

    In a step the duals move, λ is set (quantile rule), the prox gives the weights, the sparsity is
    measured, and λ is set for the next step (adaptive rule).

    After `land` the mask is held: the surviving weights go on training as if they were alone
    (λ = 0 on the support), and the sparsity no longer changes.
    """

    def __init__(
        self, params: Groups, defaults: dict[str, Any], lambda_rule: LambdaRule | None
    ) -> None:
        if defaults["delta"] <= 0:
            raise ValueError(f"delta must be positive: {defaults['delta']}")
        super().__init__(params, defaults, lambda_rule)
        self._landed = False

    @property
    def landed(self) -> bool:
        """Whether the mask is held."""
        return self._landed

    @torch.no_grad()
    def land(self, sparsity: float) -> None:
        """Fixes the support at exactly `sparsity` and holds it from now on.

        λ becomes the quantile that gives this sparsity; among equal thresholds the later goes.
        Groups stay whole, so that a group regularizer meets the sparsity to one group. Only a
        weight whose dual is exactly zero is still zero when it is meant to survive.

        Raises:
            ValueError: `sparsity` lies outside [0, 1].
        """
        if not 0 <= sparsity <= 1:
            raise ValueError(f"sparsity must lie in [0, 1]: {sparsity}")
        pairs = list(self._regularised())
        duals = [self._dual(group, parameter) for group, parameter in pairs]
        scores = [
            group["regularizer"].thresholds(dual) / group["lambda_scale"]
            for (group, _), dual in zip(pairs, duals, strict=True)
        ]
        masks = [
            group["regularizer"].thresholds(mask.to(dual)) > 0  # a group that keeps one keeps all
            for (group, _), dual, mask in zip(
                pairs, duals, largest_masks(scores, sparsity), strict=True
            )
        ]
        both = list(zip(scores, masks, strict=True))
        gone = [score[~mask].max() for score, mask in both if not mask.all()]
        kept = [score[mask].min() for score, mask in both if mask.any()]
        if gone:
            self._lam = torch.stack(gone).max().to(self._lam)
        if kept:  # below every survivor also where one equals what goes, or the prox would zero it
            least = torch.stack(kept).min()
            below = torch.nextafter(least, torch.zeros_like(least)).to(self._lam)
            self._lam = torch.minimum(self._lam, below)
        self._apply_prox(pairs)
        for (_, parameter), mask in zip(pairs, masks, strict=True):
            parameter.masked_fill_(~mask, 0.0)
            del self.state[parameter]["dual"]
            self.state[parameter]["mask"] = mask
        self._landed = True
        self.measure_sparsity()

    @torch.no_grad()
    def reset_duals(self) -> None:
        """Starts the duals anew from the present weights, `v = w/δ + λ·∂R(w)`.

        Call it after writing into the weights, which the next step would otherwise undo.
        """
        for _, parameter in self._regularised():
            self.state[parameter].pop("dual", None)

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer, its λ rule and its landing."""
        state = super().state_dict()
        state["lambda"]["landed"] = self._landed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        super().load_state_dict(state_dict)
        self._landed = state_dict["lambda"]["landed"]
        # torch has cast them to the type of their parameter, which would round the duals of
        # bfloat16 weights.
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index, saved in state_dict["state"].items():
            for name in ("dual", "mask"):
                if name in saved:
                    device = parameters[index].device
                    self.state[parameters[index]][name] = saved[name].to(device, copy=True)

    def _advance(self) -> None:
        moved = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and self._descend(group, parameter):
                    moved.append((group, parameter))
        if not self._landed:
            self._set_weights(moved)

    @abstractmethod
    def _update(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        """What is subtracted from the dual: the step size times the direction."""

    def _descend(self, group: dict[str, Any], parameter: Tensor) -> bool:
        """Moves the dual and returns True, or moves a weight that has none and returns False."""
        if group["regularizer"] is None:
            parameter.sub_(self._update(group, parameter), alpha=group["delta"])
            return False
        if self._landed:
            update = self._update(group, parameter) * self.state[parameter]["mask"]
            parameter.sub_(update, alpha=group["delta"])
            return False
        dual = self._dual(group, parameter)
        dual.sub_(self._update(group, parameter))
        return True

    def _dual(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "dual" not in state:
            start = parameter.to(torch.promote_types(parameter.dtype, torch.float32))
            subgradient = group["regularizer"].subgradient(start)
            state["dual"] = start / group["delta"] + self._scaled_lambda(group) * subgradient
        return state["dual"]

    def _scaled_lambda(self, group: dict[str, Any]) -> Tensor:
        return self._lam * group["lambda_scale"]

    def _set_weights(self, moved: list[tuple[dict[str, Any], Tensor]]) -> None:
        rule, step = self.lambda_rule, self._steps
        if rule.needs_thresholds(step):
            thresholds = [
                group["regularizer"].thresholds(self._dual(group, parameter))
                / group["lambda_scale"]
                for group, parameter in self._regularised()
            ]
            self._lam = rule.before_prox(self._lam, thresholds, step)
        self._apply_prox(moved)
        if rule.due(step):
            self._lam = rule.after_prox(self._lam, self.measure_sparsity(), step)

    def _apply_prox(self, pairs: list[tuple[dict[str, Any], Tensor]]) -> None:
        for group, parameter in pairs:
            delta = group["delta"]
            threshold = delta * self._scaled_lambda(group)
            parameter.copy_(
                group["regularizer"].prox(delta * self._dual(group, parameter), threshold)
            )


class LinBreg(BregmanOptimizer):
    """Linearised Bregman iteration, with momentum as an exponential average.

    `m ← β·m + (1 − β)·τ·g`, `v ← v − m`, `w ← prox(δ·v)`. With λ = 0, δ = 1 and constant τ this is
    SGD with learning rate τ(1 − β) and momentum β.

    Args:
        params: Parameters or groups, see `parameter_groups`.
        lr: Step size τ.
        momentum: β in [0, 1).
        weight_decay: Coupled decay μ, `g + μ·w`.
        delta: Elastic-net parameter δ.
        lambda_rule: Chooses λ; without one λ is 0 until `lam` is set.

    Raises:
        ValueError: A hyperparameter is out of range.
    """

    def __init__(
        self,
        params: Groups,
        lr: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        delta: float = 1.0,
        lambda_rule: LambdaRule | None = None,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1): {momentum}")
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "delta": delta}
        super().__init__(params, defaults, lambda_rule)

    def _update(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        beta = group["momentum"]
        if not beta:
            return gradient * group["lr"]
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"].mul_(beta).add_(gradient, alpha=(1 - beta) * group["lr"])


class AdaBreg(BregmanOptimizer):
    """Bregman iteration with Adam's update of the dual.

    `v ← v − τ·m̂/(√ŝ + ε)`, `w ← prox(δ·v)`. With λ = 0 and δ = 1 this is AdamW.

    Args:
        params: Parameters or groups, see `parameter_groups`.
        lr: Step size τ.
        betas: Decay rates of the moments of the gradient.
        eps: Added to the denominator.
        weight_decay: Decoupled decay μ, `v ← v − τμ·w`.
        delta: Elastic-net parameter δ.
        lambda_rule: Chooses λ; without one λ is 0 until `lam` is set.

    Raises:
        ValueError: A hyperparameter is out of range.
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
    ) -> None:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1): {betas}")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "delta": delta,
        }
        super().__init__(params, defaults, lambda_rule)

    def _update(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        first, second = group["betas"]
        state = self.state[parameter]
        if "exp_avg" not in state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        average = state["exp_avg"].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        step_size = group["lr"] / (1 - first ** state["step"])
        denominator = square.sqrt().div_((1 - second ** state["step"]) ** 0.5).add_(group["eps"])
        update = (average / denominator).mul_(step_size)
        if group["weight_decay"]:
            update.add_(parameter, alpha=group["lr"] * group["weight_decay"])
        return update
