"""Magnitude pruning, in one go or gradually: the smallest weights become zero and stay zero."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from sparsify.methods.base import Task
from sparsify.methods.by_channel import Group
from sparsify.methods.dense import DenseOptions
from sparsify.methods.masked import MaskedMethod, PrunedOnce
from sparsify.recipe.validation import Fraction, Section
from sparsify.sparsity.allocation import Allocation
from sparsify.sparsity.schedules import Polynomial


class MagnitudeOptions(DenseOptions):
    """AdamW's hyperparameters, and what is compared by its size.

    Attributes:
        allocation: Which weights are compared: all (`global`), or those of each layer, with the
            densities of `uniform` or `erk`.
        group: What becomes zero together: a `weight`, or an `output` channel, by its norm.
    """

    allocation: Allocation = "global"
    group: Group = "weight"

    @model_validator(mode="after")
    def _channels_are_compared_globally(self) -> Self:
        if self.group == "output" and self.allocation != "global":
            raise ValueError("group 'output' compares all channels: leave allocation away")
        return self


class OneShotOptions(MagnitudeOptions):
    """AdamW's hyperparameters, and when and how to prune.

    Attributes:
        dense: Share of training before the pruning. A network that is trained already is pruned at
            once.
    """

    dense: Fraction = 0.5


class OneShot(PrunedOnce[OneShotOptions]):
    """Dense training, magnitude pruning, fine-tuning of what is left (Han et al. 2015)."""

    Options = OneShotOptions

    def __init__(self, task: Task, options: OneShotOptions) -> None:
        optimizer = options.optimizer(task)
        step = 0 if task.pretrained else max(round(options.dense * task.steps), 1)
        super().__init__(task, options, optimizer, step, options.group)

    @property
    def rounds(self) -> int:
        """The dense training, unless somebody else has done it, and the fine-tuning."""
        return 1 if self.task.pretrained else 2

    def _choose_support(self) -> None:
        self._prune(self.target_sparsity, self.options.allocation)
        self._revive()


class GMPOptions(MagnitudeOptions):
    """AdamW's hyperparameters and the pruning schedule.

    Attributes:
        begin: Share of training after which pruning starts.
        end: Share of training at which the target is reached.
        every: Steps between two prunings; the last is at `end`.
    """

    begin: Fraction = 0.1
    end: Fraction = 0.6
    every: Annotated[int, Field(ge=1)] = 20

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.begin >= self.end:
            raise ValueError(f"begin {self.begin:g} must be less than end {self.end:g}")
        return self


class GMP(MaskedMethod[GMPOptions]):
    """Gradual magnitude pruning with a cubic schedule (Zhu & Gupta 2018)."""

    Options: ClassVar[type[Section]] = GMPOptions

    def __init__(self, task: Task, options: GMPOptions) -> None:
        optimizer = options.optimizer(task)
        super().__init__(task, options, optimizer, options.group)
        begin, end = round(options.begin * task.steps), round(options.end * task.steps)
        target = task.target_sparsity
        initial = min(self.initial_sparsity, target)  # what is pruned does not come back
        self.schedule = Polynomial(initial, target, begin, max(end, begin + 1))

    def sparsity_target(self, step: int) -> float:
        """The cubic ramp."""
        return self.schedule(step)

    def finish(self) -> None:
        """Prunes to the target if the schedule has not."""
        self._prune(self.target_sparsity, self.options.allocation)
        self._revive()

    def _update(self) -> None:
        super()._update()
        if self._prunes(self.steps_done):
            self._prune(self.schedule(self.steps_done), self.options.allocation)

    def _prunes(self, step: int) -> bool:
        schedule = self.schedule
        due = step % self.options.every == 0 or step == schedule.end
        return due and schedule.begin < step <= schedule.end
