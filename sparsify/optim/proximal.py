"""Proximal stochastic gradient descent, for comparison with the Bregman optimizers."""

from __future__ import annotations

from sparsify.optim.lambda_rules import LambdaRule
from sparsify.optim.sharding import local, local_part
from sparsify.optim.sparse_optimizer import Groups, SparseOptimizer
from sparsify.optim.state import precise


class ProxSGD(SparseOptimizer):
    """`m ← β·m + (1 − β)·g`, `w ← prox_{τλ}(w − τ·m)`: soft thresholding after a gradient step.

    Unlike a Bregman step it shrinks every surviving weight by τλ at every step, also one that has
    no gradient in this step.

    Args:
        params: Parameters or groups, see `parameter_groups`.
        lr: Step size τ.
        momentum: β in [0, 1); an exponential average as in `LinBreg`.
        weight_decay: Coupled decay μ, `g + μ·w`.
        lambda_rule: Chooses λ; the quantile rule does not apply, as there is no dual variable.

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
        lambda_rule: LambdaRule | None = None,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults, lambda_rule)
        if self.lambda_rule.needs_quantile(1):
            raise ValueError(
                "ProxSGD has no dual variable for a quantile:"
                " give FixedLambda, or AdaptiveLambda with an initial λ"
            )

    def _advance(self) -> None:
        for group in self.param_groups:
            parameters, gradients = self._moving(group)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                weight = local(parameter)
                direction = precise(local(gradient)).add(weight, alpha=group["weight_decay"])
                if group["momentum"]:
                    average = local(self._prepare(group, parameter)["momentum_buffer"])
                    direction = average.lerp_(direction, 1 - group["momentum"])
                weight.sub_(direction, alpha=group["lr"])
            threshold = self._lam * (group["lr"] * group["lambda_scale"])
            for parameter in [*parameters, *self._idle(group)]:
                if group["regularizer"] is not None:
                    prox = group["regularizer"].prox(parameter, threshold)
                    local(parameter).copy_(local_part(parameter, prox))
        if self.lambda_rule.due(self._steps):
            sparsity = self.measure_sparsity()
            if self._steers():
                self._lam = self.lambda_rule.after_prox(self._lam, sparsity, self._steps)
