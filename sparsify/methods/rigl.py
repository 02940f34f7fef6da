"""RigL: sparse from the start, with connections that move to where the gradient is large."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field

from sparsify.methods.base import Task
from sparsify.methods.dense import DenseOptions
from sparsify.methods.masked import MaskedMethod
from sparsify.recipe.validation import Fraction
from sparsify.sparsity.allocation import LayerwiseAllocation
from sparsify.sparsity.masks import largest_masks


class RigLOptions(DenseOptions):
    """AdamW's hyperparameters and the movement of the connections.

    Attributes:
        allocation: Densities of the layers, `erk` or `uniform`.
        every: Steps ΔT between two updates of the connections.
        moved: Share α of a layer's connections that the first update may move; it falls to 0 on a
            cosine.
        end: Share of training after which the connections stay.
    """

    allocation: LayerwiseAllocation = "erk"
    every: Annotated[int, Field(ge=1)] = 100
    moved: Fraction = 0.3
    end: Fraction = 0.75


class RigL(MaskedMethod[RigLOptions]):
    """Drops small weights and grows others where the dense gradient is largest (Evci et al. 2020).

    Every layer keeps its number of connections, and what they cost. As in the paper's Algorithm 1,
    a step that moves connections does not move weights, and a connection that is dropped and grown
    in the same step keeps its weight. Steps t count from 0, and the first moves nothing, so that
    what is logged and validated after a multiple of ΔT steps has not just lost weights. From a
    trained network it starts with the largest weights, and its zeros stay: connections move among
    the others, and where the network is on target they stay, too.
    """

    Options = RigLOptions

    def __init__(self, task: Task, options: RigLOptions) -> None:
        optimizer = options.optimizer(task)
        super().__init__(task, options, optimizer)
        self.last_move = 0.0 if self.fate_of_zeros == "held" else options.end * task.steps
        if task.pretrained:
            self._prune(task.target_sparsity, options.allocation)
            return
        generator = torch.Generator().manual_seed(task.seed)
        chances = [torch.rand(w.shape, generator=generator).to(w.device) for w in self.weights]
        self.masks = largest_masks(
            chances, task.target_sparsity, self.priced.costs, options.allocation
        )
        self._apply_masks()

    @property
    def settled(self) -> bool:
        """Whether the connections stay."""
        return self.steps_done >= self.last_move

    def sparsity_target(self, step: int) -> float:
        """The target from the start."""
        return self.target_sparsity

    def finish(self) -> None:
        """The number of connections never changes, but a new one may still be zero."""
        self._revive()

    def _grows(self, step: int) -> bool:
        return self._moves(step - 1)

    def _moves(self, t: int) -> bool:
        return t % self.options.every == 0 and 0 < t < self.last_move

    def _update(self) -> None:
        if self._moves(self.steps_done - 1):
            self._move_connections(self.steps_done - 1)
        else:
            super()._update()

    def _move_connections(self, t: int) -> None:
        cosine = math.cos(math.pi * t / self.last_move)
        self._exchange(self.options.moved / 2 * (1 + cosine))
