"""Magnitude pruning: the smallest weights become zero and stay zero."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from sparsify.errors import SparsifyError
from sparsify.methods.base import Method, Task, adamw
from sparsify.methods.dense import DenseOptions
from sparsify.recipe import Fraction
from sparsify.sparsity.masks import largest_masks
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.schedules import Polynomial
from sparsify.sparsity.table import sparsity_table


class GMPOptions(DenseOptions):
    """AdamW's hyperparameters and the pruning schedule.

    Attributes:
        begin: Share of training after which pruning starts.
        end: Share of training at which the target is reached.
        every: Steps between two prunings.
    """

    begin: Fraction = 0.1
    end: Fraction = 0.6
    every: Annotated[int, Field(ge=1)] = 20


class GMP(Method[GMPOptions]):
    """Gradual magnitude pruning with a cubic schedule and global masks (Zhu & Gupta 2018).

    What is zero in a pretrained network is pruned already.

    Raises:
        SparsifyError: A pretrained network is sparser than the target.
    """

    Options = GMPOptions

    def __init__(self, task: Task, options: GMPOptions) -> None:
        super().__init__(task, options)
        self.optimizer = adamw(task, options.lr, options.betas, options.weight_decay)
        self.weights = list(prunable_parameters(task.network, task.ignore).values())
        self.masks = [torch.ones_like(w, dtype=torch.bool) for w in self.weights]
        initial = 0.0
        if task.pretrained:
            self.masks = [w.detach() != 0 for w in self.weights]
            initial = _start_sparsity(task)
        begin, end = round(options.begin * task.steps), round(options.end * task.steps)
        self.schedule = Polynomial(initial, task.target_sparsity, begin, max(end, begin + 1))

    def sparsity_target(self, step: int) -> float:
        """The cubic ramp."""
        return self.schedule(step)

    def finish(self) -> None:
        """Prunes to the target if the schedule has not."""
        self._prune(self.target_sparsity)

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer, and the masks."""
        return {**super().state_dict(), "masks": [mask.clone() for mask in self.masks]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        super().load_state_dict(state)
        self.masks = [m.to(w.device) for m, w in zip(state["masks"], self.weights, strict=True)]

    def _update(self) -> None:
        # Masking the gradient keeps the moments of pruned weights from gathering what would
        # disturb the step; masking the weight afterwards undoes what old moments still move.
        for weight, mask in zip(self.weights, self.masks, strict=True):
            if weight.grad is not None:
                weight.grad.mul_(mask)
        self.optimizer.step()
        step = self.steps_done
        if step % self.options.every == 0 and self.schedule.begin < step <= (
            self.schedule.end + self.options.every
        ):
            self._prune(self.schedule(step))
        self._apply_masks()

    @torch.no_grad()
    def _prune(self, sparsity: float) -> None:
        # A pruned weight scores below every other, so that it cannot come back among equals.
        scores = [
            torch.where(mask, weight.abs(), -1.0)
            for weight, mask in zip(self.weights, self.masks, strict=True)
        ]
        self.masks = largest_masks(scores, sparsity)
        self._apply_masks()

    @torch.no_grad()
    def _apply_masks(self) -> None:
        for weight, mask in zip(self.weights, self.masks, strict=True):
            weight.masked_fill_(~mask, 0.0)
            for value in self.optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == mask.shape:
                    value.masked_fill_(~mask, 0.0)


def _start_sparsity(task: Task) -> float:
    table = sparsity_table(task.network, task.ignore)
    if not table.at_most(task.target_sparsity):
        raise SparsifyError(
            f"gmp revives no weights, so it cannot start from a network that is"
            f" {table.sparsity:.2%} sparse and end at {task.target_sparsity:.2%}: raise the target"
            " sparsity or take adabreg"
        )
    return table.sparsity
