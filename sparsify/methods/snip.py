"""SNIP: pruned before the first step, by what a weight's connection matters to the loss."""

from __future__ import annotations

from torch import Tensor

from sparsify.methods.base import Task
from sparsify.methods.dense import DenseOptions
from sparsify.methods.masked import PrunedOnce


class SNIP(PrunedOnce[DenseOptions]):
    """Keeps the connections of the largest sensitivity `|w·∂L/∂w|` (Lee et al. 2019).

    That is the derivative of the loss by a factor before each weight (arXiv 1810.02340), measured
    on the first batch with the weights of the start. All layers are compared. Then what is left
    trains with AdamW.
    """

    Options = DenseOptions

    def __init__(self, task: Task, options: DenseOptions) -> None:
        super().__init__(task, options, options.optimizer(task), pruning_step=1)

    def _update(self) -> None:
        if not self.pruned:
            self._prune_once()
            self.mask_gradients()
        super()._update()

    def _scores(self) -> list[Tensor]:
        return [
            weight.detach().abs() * (0 if weight.grad is None else weight.grad.abs())
            for weight in self.weights
        ]

    def _choose_support(self) -> None:
        self._prune(self.target_sparsity, "global")
        self._revive()
