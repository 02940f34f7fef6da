"""The same training without pruning, to compare with; zeros of a trained start stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch.optim import Optimizer

from sparsify.methods.base import Method, Task, decay_groups
from sparsify.recipe.validation import Section


class DenseOptions(Section):
    """AdamW's hyperparameters.

    Attributes:
        lr: Peak learning rate.
        betas: Decay rates of the moments.
        weight_decay: Decoupled decay of matrices and kernels.
    """

    lr: float = Field(default=2e-3, gt=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    weight_decay: float = Field(default=1e-4, ge=0)

    def optimizer(self, task: Task) -> Optimizer:
        """AdamW over network and head with these hyperparameters."""
        parameters = [*task.network.parameters(), *task.head.parameters()]
        groups = decay_groups([{"params": parameters, "weight_decay": self.weight_decay}])
        fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, fused=fused)


class Dense(Method[DenseOptions]):
    """AdamW without pruning; whatever the recipe's target, that of a trained network is its own."""

    Options = DenseOptions
    pursues_target = False

    def __init__(self, task: Task, options: DenseOptions) -> None:
        target = task.priced().sparsity if task.pretrained else 0.0
        super().__init__(replace(task, target_sparsity=target), options)
        self.optimizer = options.optimizer(task)

    def sparsity_target(self, step: int) -> float:
        """That of the start."""
        return self.target_sparsity

    def finish(self) -> None:
        """Nothing to do."""

    def _update(self) -> None:
        self.optimizer.step()
