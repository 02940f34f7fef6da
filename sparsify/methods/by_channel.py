"""Pruning by channel: whole output channels go, with all that belongs to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from sparsify.channels.groups import ChannelGroups, Flags
from sparsify.methods.base import Task
from sparsify.sparsity.prunable import prunable_parameters

Group = Literal["weight", "output"]
"""What becomes zero together: a `weight` alone, or all weights of an `output` channel."""


class DeadChannels:
    """The channels that a training has taken out, held at zero with all that belongs to them.

    Args:
        task: What to train.

    Attributes:
        groups: The channels of the network.
        dead: Which are dead; all parameters that belong to them are held at zero.
    """

    def __init__(self, task: Task) -> None:
        self.groups = ChannelGroups(task.network, task.bins, task.selection, dict(task.costs))
        self._parameters = dict(task.network.named_parameters())
        self._prunable = prunable_parameters(task.network, *task.selection)
        self.dead: Flags = np.zeros_like(self.groups.candidates)
        self._masks: Mapping[str, Tensor] = {}
        if task.pretrained:
            self._hold(self.groups.dead_now())
        self.groups.smallest(self.groups.scores(self.makers), task.target_sparsity)  # or refuses

    @property
    def makers(self) -> dict[str, Tensor]:
        """The weights whose rows make channels that can go."""
        return {name: self._parameters[name] for name in self.groups.makers}

    def start(self, share: float, seed: int) -> None:
        """Zeroes the rows of random channels, with a share of the makers' weights at most.

        Biases and norms stay, so that these channels can come to life.
        """
        rows = self.groups.random_rows(share, seed)
        for name, weight in self.makers.items():
            gone = torch.from_numpy(~self.groups.rows(name, rows)).to(weight.device)
            with torch.no_grad():
                weight[gone] = 0.0

    def share_of_makers(self, sparsity: float, weights: Mapping[str, Tensor]) -> float:
        """The share of the makers' weights that a sparsity takes if the smallest channels go.

        Args:
            sparsity: As in `choose`.
            weights: The weights of the makers, or what stands for them.
        """
        return self.groups.share_of_makers(
            self.groups.smallest(self.groups.scores(weights), sparsity)
        )

    def masks(self, names: Iterable[str]) -> dict[str, Tensor]:
        """What of parameters is not held at zero."""
        return {name: self._masks[name] for name in names}

    def choose(self, sparsity: float, weights: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Lets the channels of the smallest weights die, those first that are dead.

        Args:
            sparsity: Share of the cost of all prunable weights that then is zero.
            weights: What stands for the weights of the makers, if not they themselves.

        Returns:
            The masks of all prunable weights, in their order.

        Raises:
            SparsifyError: So many weights do not belong to channels that can go.
        """
        scores = self.groups.scores(self.makers if weights is None else weights)
        self._hold(self.groups.smallest(np.where(self.dead, -1.0, scores), sparsity))
        return [self._masks[name] for name in self._prunable]

    @torch.no_grad()
    def apply(self, optimizer: Optimizer) -> None:
        """Zeroes what belongs to dead channels, in the optimizer's memory, too."""
        for name, mask in self._masks.items():
            parameter, gone = self._parameters[name], ~mask
            parameter.masked_fill_(gone, 0.0)
            for value in optimizer.state.get(parameter, {}).values():
                if (
                    isinstance(value, Tensor)
                    and value.shape == gone.shape
                    and value.dtype.is_floating_point
                ):
                    value.masked_fill_(gone, 0.0)

    def mask_gradients(self) -> None:
        """Zeroes the gradients of what is held."""
        for name, mask in self._masks.items():
            gradient = self._parameters[name].grad
            if gradient is not None:
                gradient.masked_fill_(~mask, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Which channels are dead."""
        return {"dead": torch.from_numpy(self.dead.copy())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict()`."""
        self._hold(state["dead"].numpy().copy())

    def _hold(self, dead: Flags) -> None:
        self.dead = dead
        self._masks = self.groups.masks(dead) if dead.any() else {}
