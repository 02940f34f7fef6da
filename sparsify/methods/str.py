"""STR: soft thresholds of the weights that are learnt, one for each layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from sparsify.methods.base import Task
from sparsify.methods.dense import DenseOptions
from sparsify.methods.masked import PrunedOnce
from sparsify.recipe.validation import Fraction
from sparsify.sparsity.prunable import prunable_parameters


class STROptions(DenseOptions):
    """AdamW's hyperparameters, and those of the thresholds.

    Attributes:
        threshold: `s` at the start; the threshold of a layer is `sigmoid(s)`.
        threshold_lr: Peak learning rate of `s`.
        threshold_decay: Decoupled decay of `s` to 0, where the threshold is ½: it decides how
            sparse the network becomes.
        landing: Share of training after which the smallest weights are zeroed, as many as the
            target asks for; the others train on.
    """

    threshold: float = -8.0
    threshold_lr: float = Field(default=2e-3, gt=0)
    threshold_decay: float = Field(default=1.0, ge=0)
    landing: Fraction = 0.75


class STR(PrunedOnce[STROptions]):
    """Weights `sign(y)·max(|y| − sigmoid(s), 0)` (Kusupati et al. 2020, arXiv 2002.03231).

    `y` and `s` are trained, with AdamW. Nothing but the decay of `s` controls the sparsity, which
    is made exact at the landing. From then on the weights themselves are trained.
    """

    Options = STROptions
    of_one_target = frozenset({"threshold_decay"})

    def __init__(self, task: Task, options: STROptions) -> None:
        weights = prunable_parameters(task.network, *task.selection).values()
        self.latents = [weight.detach().clone() for weight in weights]
        self.thresholds = [
            nn.Parameter(torch.full((), options.threshold, device=w.device)) for w in weights
        ]
        optimizer = options.optimizer(task)
        thresholds = {"lr": options.threshold_lr, "weight_decay": options.threshold_decay}
        optimizer.add_param_group({"params": self.thresholds, **thresholds})
        landing_step = max(round(options.landing * task.steps), 1)
        super().__init__(task, options, optimizer, landing_step)
        self._follow()

    def state_dict(self) -> dict[str, Any]:
        """Also `y` and `s`."""
        own = {"latents": self.latents, "thresholds": [s.detach() for s in self.thresholds]}
        return super().state_dict() | {k: [t.clone() for t in each] for k, each in own.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        super().load_state_dict(state)
        for name in ("latents", "thresholds"):
            for own, saved in zip(getattr(self, name), state[name], strict=True):
                own.copy_(saved)

    @property
    def uses_gradients_of_zeros(self) -> bool:
        """Where they may decide what comes back; before the landing, zeros have no gradient."""
        return super().uses_gradients_of_zeros if self.pruned else self._grows(self.steps_done + 1)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Before the landing makes them those by `y`, which zeros do not have."""
        super().mask_gradients()
        for weight in self.weights if not self.pruned else ():
            if weight.grad is not None:
                weight.grad.masked_fill_(weight == 0, 0.0)

    def _grows(self, step: int) -> bool:
        return not self.pruned and step in (self.pruning_step, self.task.steps)

    @torch.no_grad()
    def _move(self) -> None:
        for weight, latent, threshold in self._triples():
            if weight.grad is not None and not self.pruned:
                level = threshold.sigmoid()
                shrinks = -(weight.grad * weight.sign()).sum()
                threshold.grad = shrinks * level * (1 - level)
            weight.copy_(latent)
        super()._move()
        for weight, latent, threshold in self._triples():
            latent.copy_(weight)
            threshold.grad = None
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        """The weights from what is trained, before the landing."""
        if self.pruned:
            return
        for weight, latent, threshold in self._triples():
            shrunk = (latent.abs() - threshold.sigmoid()).clamp(min=0)
            weight.copy_(latent.sign() * shrunk + 0.0)  # which turns -0.0 into +0.0

    def _triples(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        return zip(self.weights, self.latents, self.thresholds, strict=True)

    @torch.no_grad()
    def _apply_masks(self) -> None:
        super()._apply_masks()
        for latent, mask in zip(self.latents, self.masks, strict=True):
            latent.masked_fill_(~mask, 0.0)

    @torch.no_grad()
    def _choose_support(self) -> None:
        self._prune(self.target_sparsity, "global")
        self._revive()
        self.dense_gradients = []
        for latent, weight in zip(self.latents, self.weights, strict=True):
            latent.copy_(weight)
