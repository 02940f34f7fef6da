"""AC/DC: a sparse and a dense training that take turns on the same weights."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from sparsify.methods.base import Task
from sparsify.methods.dense import DenseOptions
from sparsify.methods.masked import MaskedMethod
from sparsify.recipe.validation import Fraction


class ACDCOptions(DenseOptions):
    """AdamW's hyperparameters and the turns, in shares of the training.

    Attributes:
        warmup: The first, dense one, at least.
        phase: Each of those between.
        final: The last, compressed one.
    """

    warmup: Fraction = 0.1
    phase: float = Field(default=0.05, gt=0, le=1)
    final: float = Field(default=0.15, gt=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup + self.final > 1:
            raise ValueError("warmup and final must not be more than the whole training together")
        return self


class ACDC(MaskedMethod[ACDCOptions]):
    """Alternating compressed and decompressed training (Peste et al. 2021, arXiv 2106.12379).

    A compressed phase begins with the largest weights of the whole network, and the others stay
    zero in it; a decompressed one lets all move again, the pruned ones from zero, without
    momentum. The last phase before the final one is decompressed, as in the paper. What was zero in
    a trained network stays so.
    """

    Options = ACDCOptions

    def __init__(self, task: Task, options: ACDCOptions) -> None:
        super().__init__(task, options, options.optimizer(task))
        self.free = self.masks
        self.phase = max(round(options.phase * task.steps), 1)
        self.last_phase = min(round((1 - options.final) * task.steps), task.steps - 1)
        self.first_phase = round(options.warmup * task.steps)
        if self._compresses(1):
            self._compress()

    @property
    def settled(self) -> bool:
        """Whether the final phase has begun."""
        return self.fate_of_zeros == "held" or self.steps_done >= self.last_phase

    def sparsity_target(self, step: int) -> float:
        """The target at the ends of a compressed phase and in it, that of the start elsewhere."""
        if step >= self.task.steps or self._compresses(step) or self._compresses(step + 1):
            return self.target_sparsity
        return self.initial_sparsity

    def finish(self) -> None:
        """Prunes to the target if it ends too early for the final phase."""
        if not self.settled:
            self._compress()
        self._revive()

    def _compresses(self, step: int) -> bool:
        """Whether a step, the first being 1, is of a compressed phase."""
        if step > self.last_phase or self.fate_of_zeros == "held":
            return True
        if step <= self.first_phase:
            return False
        return (self.last_phase - step) // self.phase % 2 == 1

    def _update(self) -> None:
        super()._update()
        now, then = self._compresses(self.steps_done), self._compresses(self.steps_done + 1)
        if then and not now:
            self._compress()  # so that the next gradients are those of the compressed network
        elif now and not then:
            self._decompress()  # so that they are not masked

    def _compress(self) -> None:
        if self.fate_of_zeros != "held":
            self._prune(self.target_sparsity, "global")
            self._revive()

    @torch.no_grad()
    def _decompress(self) -> None:
        self.masks = self.free
        for state in self.optimizer.state.values():
            moment = state.get("exp_avg")
            if isinstance(moment, Tensor):
                moment.zero_()
