"""The interface of a way to get sparse. The trainer knows nothing else about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparsify.errors import SparsifyError
from sparsify.recipe.validation import Section
from sparsify.sparsity.costs import Cost, PricedWeights, beside
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.selection import Selection

O = TypeVar("O", bound=Section)  # noqa: E741

Fate = Literal["held", "kept", "revived"]
"""What becomes of the zeros of a trained network.

Where it is as sparse as is wanted they are `held`, and no others join them. Where it is less sparse
they are `kept`, and others join them. Where it is sparser some are `revived`.
"""


@dataclass(frozen=True)
class Task:
    """What a method is told before the first step.

    Attributes:
        network: The embedding network, to be made sparse.
        head: The training-only classifier; trained, never pruned, never counted.
        target_sparsity: Share of exact zeros wanted among the prunable parameters.
        selection: What may become sparse.
        steps: Optimizer steps in all.
        seed: Seed of everything random in the method.
        pretrained: Whether the network is trained already, and the method starts from its weights.
        costs: What each weight of a parameter counts for, by name, or nothing: its multiply-adds
            where these are the target, one each where there are none. Every sparsity is a share of
            that.
        bins: Features of a frame.
        keep_layers: Whether every layer keeps a weight where those of all are compared.
    """

    network: nn.Module
    head: nn.Module
    target_sparsity: float
    selection: Selection
    steps: int
    seed: int
    pretrained: bool = False
    costs: Mapping[str, Cost] = field(default_factory=dict)
    bins: int = 80
    keep_layers: bool = True

    def priced(self) -> PricedWeights:
        """The prunable weights, and what they count for."""
        weights = prunable_parameters(self.network, *self.selection)
        default = 0 if self.costs else 1
        costs = [beside(self.costs.get(name, default), w) for name, w in weights.items()]
        return PricedWeights(list(weights.values()), costs)

    def fate_of_zeros(self) -> Fate | None:
        """What becomes of the zeros that the network has now; `None` if it is not trained."""
        if not self.pretrained:
            return None
        priced, target = self.priced(), self.target_sparsity
        if priced.on_target(target):
            return "held"
        return "kept" if priced.nonzero > priced.kept(target) else "revived"

    def in_words(self, sparsity: float) -> str:
        """A sparsity, and what it is a share of."""
        return f"{sparsity:.2%}{' of the multiply-adds' if self.costs else ''}"


class Method(ABC, Generic[O]):
    """One way to get sparse.

    The trainer sets the learning rate of `optimizer` as a multiple of what it finds there. For
    every batch it computes gradients, calls `mask_gradients`, clips what is left, and calls `step`;
    after the last it calls `finish`.

    Attributes:
        Options: The method's section of a recipe.
        pursues_target: Whether the recipe's target sparsity makes any difference.
        revives: Whether it can start from a network that is sparser than the target.
        of_one_target: Options whose right value depends on the target more than on anything else.
        optimizer: Holds the parameters of network and head.
        priced: The prunable weights, and what they count for.
        initial_sparsity: Share of zeros in the network that the method was given.
        fate_of_zeros: What becomes of those of a trained network.
        kept_zeros: Where each prunable weight was zero in a trained network, if it stays so; `None`
            where nothing has to stay.
    """

    Options: ClassVar[type[Section]]
    pursues_target: ClassVar[bool] = True
    revives: ClassVar[bool] = True
    of_one_target: ClassVar[frozenset[str]] = frozenset()
    optimizer: Optimizer

    def __init__(self, task: Task, options: O) -> None:
        self.check_start(task)
        self.task = task
        self.options = options
        self.priced = task.priced()
        self.initial_sparsity = self.priced.sparsity
        self.fate_of_zeros = task.fate_of_zeros()
        self.kept_zeros: list[Tensor] | None = None
        if self.fate_of_zeros in ("held", "kept"):
            self._keep_zeros()
        self.steps_done = 0

    @classmethod
    def check_target(cls, options: O, target_sparsity: float | None) -> None:
        """Refuses, with `SparsifyError`, a target that the options do not serve.

        Args:
            options: Of the method.
            target_sparsity: `None` where the target is one of multiply-adds.
        """

    @classmethod
    def check_start(cls, task: Task) -> None:
        """Refuses, with `SparsifyError`, a trained network that is too sparse for the target."""
        if task.fate_of_zeros() == "revived" and not cls.revives:
            raise SparsifyError(
                "the method revives no weights, so it cannot start from a network that is"
                f" {task.priced().sparsity:.2%} sparse and end at {task.target_sparsity:.2%}"
                f"{' (by multiply-adds)' if task.costs else ''}: ask for more sparsity, ask for"
                " none to keep its zeros, or take adabreg, which revives some"
            )

    @property
    def target_sparsity(self) -> float:
        """The sparsity that the finished network has, as a share of what its weights count for."""
        return self.task.target_sparsity

    @property
    def dearest(self) -> int:
        """What the smallest part costs by which the sparsity can change, at most."""
        return self.priced.dearest

    @property
    def lam(self) -> float | None:
        """λ now, or `None` for a method without one; may wait for the device."""
        return None

    @property
    def settled(self) -> bool:
        """Whether a model on target is one to deliver: its zeros stay where they are."""
        return True

    @property
    def uses_gradients_of_zeros(self) -> bool:
        """Whether the next step looks at the gradients of prunable weights that are zero."""
        return True

    @property
    def rounds(self) -> int:
        """How many trainings share the steps, each going on from the end of the one before."""
        return 1

    def mask_gradients(self) -> None:
        """Zeroes the gradients of weights that the next step holds at zero.

        Before clipping: of a very sparse network they are the largest by orders of magnitude, and
        would leave nothing of the others. Without a gradient, zeros of a trained network stay
        zeros: there is no momentum, no dual and nothing to decay.
        """
        for weight, zero in zip(self.priced.weights, self.kept_zeros or [], strict=False):
            if weight.grad is not None:
                weight.grad.masked_fill_(zero, 0.0)

    def step(self) -> None:
        """Updates the weights from the gradients of the batch just seen."""
        self.steps_done += 1
        self._update()

    @torch.no_grad()
    def _keep_zeros(self) -> None:
        zeros = [weight == 0 for weight in self.priced.weights]
        if any(zero.any() for zero in zeros):
            self.kept_zeros = zeros
            for weight, zero in zip(self.priced.weights, zeros, strict=True):
                weight.masked_fill_(zero, 0.0)  # other tools leave −0.0, too

    @abstractmethod
    def sparsity_target(self, step: int) -> float:
        """The sparsity wanted after `step` steps."""

    @abstractmethod
    def finish(self) -> None:
        """Makes sure that the sparsity is the target; called once, after the last step."""

    @abstractmethod
    def _update(self) -> None:
        """One step of the optimizer, and whatever the method does to the zeros."""

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs besides the weights."""
        return {"steps_done": self.steps_done, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        self.steps_done = state["steps_done"]
        self.optimizer.load_state_dict(state["optimizer"])


def decay_groups(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Splits optimizer groups, so that weight decay acts on matrices and kernels only.

    The policy of all methods, for the network as for the head: biases and norms do not decay.

    Args:
        groups: They keep their order, the matrices of each before its other parameters.
    """
    split = []
    for group in groups:
        matrices = [parameter for parameter in group["params"] if parameter.dim() > 1]
        others = [parameter for parameter in group["params"] if parameter.dim() <= 1]
        split += [group | {"params": matrices}, group | {"params": others, "weight_decay": 0.0}]
    return [group for group in split if group["params"]]
