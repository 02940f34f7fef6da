"""What the methods with masks share: pruned weights are exactly zero and stay so."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparsify.methods.base import Method, Task
from sparsify.methods.by_channel import DeadChannels, Group
from sparsify.recipe.validation import Section
from sparsify.sparsity.allocation import Allocation
from sparsify.sparsity.costs import Cost
from sparsify.sparsity.masks import largest_in_each, largest_masks

O = TypeVar("O", bound=Section)  # noqa: E741


class MaskedMethod(Method[O], Generic[O]):
    """An optimizer under masks, which hold gradient, weight and the optimizer's memory at zero.

    The zeros of a network that is trained already are masked from the start.

    Args:
        task: What to train.
        options: The method's.
        optimizer: Holds the parameters of network and head.
        group: What becomes zero together.

    Attributes:
        weights: The prunable weights.
        masks: Which of them may differ from zero.
        dense_gradients: Those of all weights, in a step in which zeros may grow.
    """

    revives = False

    def __init__(
        self, task: Task, options: O, optimizer: Optimizer, group: Group = "weight"
    ) -> None:
        super().__init__(task, options)
        self.optimizer = optimizer
        self.channels = DeadChannels(task) if group == "output" else None
        self.weights = self.priced.weights
        self.dense_gradients: list[Tensor | None] = []
        self.size = sum(weight.numel() for weight in self.weights)
        self.masks = [torch.ones_like(w, dtype=torch.bool) for w in self.weights]
        if self.kept_zeros is not None:
            self.masks = [~zero for zero in self.kept_zeros]

    @property
    def dearest(self) -> int:
        """That of a weight, or of a channel."""
        return self.channels.groups.dearest if self.channels else super().dearest

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer, and the masks."""
        channels = {"channels": self.channels.state_dict()} if self.channels else {}
        masks = [mask.clone() for mask in self.masks]
        return {**super().state_dict(), **channels, "masks": masks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        super().load_state_dict(state)
        if self.channels:
            self.channels.load_state_dict(state["channels"])
        self.masks = [m.to(w.device) for m, w in zip(state["masks"], self.weights, strict=True)]

    @property
    def uses_gradients_of_zeros(self) -> bool:
        """Where connections grow, or weights that are not masked are zero."""
        return self._grows(self.steps_done + 1) or any(
            bool(((weight == 0) & mask).any())
            for weight, mask in zip(self.weights, self.masks, strict=True)
        )

    def mask_gradients(self) -> None:
        """Zeroes those of masked weights; keeps them where they decide which connections grow."""
        if self._grows(self.steps_done + 1):
            self.dense_gradients = [
                None if w.grad is None else w.grad.clone() for w in self.weights
            ]
        for weight, mask in zip(self.weights, self.masks, strict=True):
            if weight.grad is not None:
                weight.grad.masked_fill_(~mask, 0.0)
        if self.channels:
            self.channels.mask_gradients()

    def _grows(self, step: int) -> bool:
        """Whether a step, the first being 1, lets masked weights grow by their gradients."""
        return False

    def _update(self) -> None:
        self._move()
        self._apply_masks()

    def _move(self) -> None:
        """Moves the weights along the gradients."""
        self.optimizer.step()

    def _prune(self, sparsity: float, allocation: Allocation) -> None:
        """Masks the weights of the lowest scores; what is masked stays masked."""
        self.masks = self._chosen(sparsity, allocation)
        self._apply_masks()

    @torch.no_grad()
    def _chosen(self, sparsity: float, allocation: Allocation) -> list[Tensor]:
        """The masks that leave the weights of the highest scores, of those that are there."""
        if self.channels:
            chosen = self.channels.choose(sparsity)
            return [mask & own for mask, own in zip(self.masks, chosen, strict=True)]
        scores = [
            torch.where(mask, score, -torch.inf)
            for mask, score in zip(self.masks, self._scores(), strict=True)
        ]
        return largest_masks(
            scores, sparsity, self.priced.costs, allocation, keep_layers=self.task.keep_layers
        )

    def _scores(self) -> list[Tensor]:
        """How important the weights are: their magnitude."""
        return [weight.abs() for weight in self.weights]

    @torch.no_grad()
    def _exchange(self, share: float) -> None:
        """Drops a share of every layer's smallest weights, and lets as many others grow.

        Those of the largest dense gradient grow, from zero; of what a trained network had zero,
        none. Weights give way to others of the same cost alone. A layer without a gradient stays.
        """
        never = self.kept_zeros or [torch.zeros_like(mask) for mask in self.masks]
        self.masks = [
            mask if gradient is None else _exchanged(weight, gradient, mask, zero, cost, share)
            for weight, gradient, mask, zero, cost in zip(
                self.weights,
                self.dense_gradients,
                self.masks,
                never,
                self.priced.costs,
                strict=True,
            )
        ]
        self.dense_gradients = []
        self._apply_masks()

    @torch.no_grad()
    def _revive(self) -> None:
        """Brings weights of the support that are zero to life, by a step along their gradients.

        Without a gradient, as in a unit that nothing listens to, they become too small to change
        any output: the target counts them.
        """
        largest = _largest(self.weights)
        for weight, mask in zip(self.weights, self.masks, strict=True):
            if weight.grad is not None:
                step = weight.grad * self.optimizer.param_groups[0]["lr"]
                weight.sub_(torch.where(mask & (weight == 0), step, 0.0))
            weight.masked_fill_(mask & (weight == 0), torch.finfo(weight.dtype).eps * largest)

    @torch.no_grad()
    def _apply_masks(self) -> None:
        if self.channels:
            self.channels.apply(self.optimizer)
        for weight, mask in zip(self.weights, self.masks, strict=True):
            pruned = ~mask
            weight.masked_fill_(pruned, 0.0)
            for value in self.optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == mask.shape:
                    value.masked_fill_(pruned, 0.0)


class PrunedOnce(MaskedMethod[O], Generic[O]):
    """Pruned to the target in one go after a number of steps, then trained on under the masks.

    A trained network that is on target has been pruned.

    Args:
        task: What to train.
        options: The method's.
        optimizer: Holds the parameters of network and head.
        pruning_step: Step after which to prune; 0 prunes before the first.
        group: What becomes zero together.
    """

    def __init__(
        self,
        task: Task,
        options: O,
        optimizer: Optimizer,
        pruning_step: int,
        group: Group = "weight",
    ) -> None:
        super().__init__(task, options, optimizer, group)
        self.pruning_step = 0 if self.fate_of_zeros == "held" else pruning_step
        self.pruned = False
        if self.pruning_step == 0:
            self._prune_once()

    @property
    def settled(self) -> bool:
        """Whether the weights have been pruned."""
        return self.pruned

    def sparsity_target(self, step: int) -> float:
        """That of the start until the pruning, then the target."""
        return self.target_sparsity if step >= self.pruning_step else self.initial_sparsity

    def finish(self) -> None:
        """Prunes if the time for it has not come; what has become zero since is too much."""
        if self.pruned:
            self._revive()
        else:
            self._prune_once()

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer, the masks, and whether they are final."""
        return {**super().state_dict(), "pruned": self.pruned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        super().load_state_dict(state)
        self.pruned = state["pruned"]

    def _update(self) -> None:
        super()._update()
        if self.steps_done == self.pruning_step and not self.pruned:
            self._prune_once()

    def _scores(self) -> list[Tensor]:
        """Magnitudes; those of zeros lie below, in the order of their gradients."""
        known = self.dense_gradients or [weight.grad for weight in self.weights]
        gradients = [
            torch.zeros_like(weight) if gradient is None else gradient.abs()
            for weight, gradient in zip(self.weights, known, strict=True)
        ]
        largest = _largest(gradients)
        return [
            torch.where(weight != 0, weight.abs(), gradient / largest - 1)
            for weight, gradient in zip(self.weights, gradients, strict=True)
        ]

    def _prune_once(self) -> None:
        self._choose_support()
        self._apply_masks()
        self.pruned = True

    @abstractmethod
    def _choose_support(self) -> None:
        """Sets the masks to exactly the target sparsity."""


def _largest(tensors: Sequence[Tensor]) -> float:
    """The largest absolute value of all, or 1 where nothing differs from zero."""
    return max((float(t.abs().max()) for t in tensors if t.numel()), default=0.0) or 1.0


def _exchanged(
    weight: Tensor, gradient: Tensor, mask: Tensor, never: Tensor, cost: Cost, share: float
) -> Tensor:
    """The mask without its smallest weights, and with as many others of large gradient."""
    exchanged = torch.zeros_like(mask)
    for each in torch.as_tensor(cost).unique():
        alike = (torch.as_tensor(cost, device=mask.device) == each).expand_as(mask)
        connections = int((mask & alike).sum())
        dropped = round(share * connections)
        sizes = torch.where(mask & alike, weight.abs(), -1.0)
        (remaining,) = largest_in_each([sizes], [connections - dropped])
        slopes = torch.where(alike & ~remaining & ~never, gradient.abs(), -1.0)
        (grown,) = largest_in_each([slopes], [dropped])
        exchanged |= remaining | grown
    return exchanged
