"""ReWA: weights that vanish as powers, then a threshold, then training of what is left."""

from __future__ import annotations

from pydantic import Field

from sparsify.methods.base import Task, decay_groups
from sparsify.methods.dense import DenseOptions
from sparsify.methods.masked import PrunedOnce
from sparsify.optim.rewa import ReWAAdamW
from sparsify.recipe.validation import Fraction
from sparsify.sparsity.prunable import prunable_parameters


class ReWAOptions(DenseOptions):
    """AdamW's hyperparameters for what is never pruned, and those of the powers.

    Attributes:
        latent_lr: Peak learning rate of `y`.
        latent_decay: Decoupled decay of `y`.
        power: K in `x = sign(y)·|y|^K`.
        gradient_power: M, the gradient being multiplied by `|y|^M`.
        smoothing: ε.
        landing: Share of training after which the smallest weights are zeroed, as many as the
            target asks for; the others train on.
    """

    latent_lr: float = Field(default=2e-2, gt=0)
    latent_decay: float = Field(default=0.1, ge=0)
    power: float = Field(default=2.25, ge=1)
    gradient_power: float = Field(default=1.25, ge=0)
    smoothing: float = Field(default=0.0, ge=0)
    landing: Fraction = 0.75


class ReWA(PrunedOnce[ReWAOptions]):
    """AdamW on the roots of the weights (arXiv 2605.25134), and a quantile as the threshold.

    A long training may leave fewer weights than the target: what has become so small that its power
    is zero stays so. Then those where the gradient is largest join them at the landing.
    """

    Options = ReWAOptions
    optimizer: ReWAAdamW

    def __init__(self, task: Task, options: ReWAOptions) -> None:
        prunable = list(prunable_parameters(task.network, *task.selection).values())
        chosen = {id(weight) for weight in prunable}
        parameters = [*task.network.parameters(), *task.head.parameters()]
        rest = [p for p in parameters if id(p) not in chosen]
        plain = {"power": 1.0, "gradient_power": 0.0, "smoothing": 0.0}
        groups = [
            {"params": prunable, "lr": options.latent_lr, "weight_decay": options.latent_decay},
            {"params": rest, **plain},
        ]
        optimizer = ReWAAdamW(
            decay_groups(groups),
            options.lr,
            betas=options.betas,
            weight_decay=options.weight_decay,
            power=options.power,
            gradient_power=options.gradient_power,
            smoothing=options.smoothing,
        )
        landing_step = max(round(options.landing * task.steps), 1)
        super().__init__(task, options, optimizer, landing_step)

    def _choose_support(self) -> None:
        self._prune(self.target_sparsity, "global")
        self._revive()
        self.optimizer.reset_latents()
