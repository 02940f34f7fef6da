"""Bregman training: sparse from the first step, λ steered to the target, landed exactly."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import Field, model_validator
from torch import Tensor

from sparsify.methods.base import Method, Task, decay_groups
from sparsify.methods.by_channel import DeadChannels, Group
from sparsify.optim.adabreg import AdaBreg
from sparsify.optim.bregman import BregmanOptimizer
from sparsify.optim.dual_optimizer import LambdaChange
from sparsify.optim.lambda_rules import AdaptiveLambda, FixedLambda, LambdaRule, QuantileLambda
from sparsify.optim.linbreg import LinBreg
from sparsify.optim.regularizers import GroupL1L2, parameter_groups
from sparsify.recipe.validation import Fraction, OpenFraction, Section
from sparsify.recipe.words import SteeringRule
from sparsify.sparsity.allocation import LayerwiseAllocation
from sparsify.sparsity.costs import PricedWeights, beside
from sparsify.sparsity.masks import initialise_sparse
from sparsify.sparsity.schedules import Polynomial, Ramp, SparsitySchedule

_AIM_EVERY = 20  # steps
Beta = Annotated[float, Field(ge=0, lt=1)]


class BregmanOptions(Section):
    """What all Bregman methods have in common.

    Attributes:
        delta: Elastic-net parameter δ.
        initial_sparsity: Share of zeros at the start, of `output` channels 0.5 if not given; a
            network that is trained already starts as it is.
        initial_allocation: How the first nonzeros are shared out among the layers.
        landing: Share of training after which the support is held at exactly the target.
        group: What becomes zero together: a `weight`, or an `output` channel.
    """

    delta: float = Field(default=1.0, gt=0)
    initial_sparsity: OpenFraction = 0.99
    initial_allocation: LayerwiseAllocation = "erk"
    landing: Fraction = 0.75
    group: Group = "weight"

    kind: ClassVar[Callable[..., BregmanOptimizer]]

    @model_validator(mode="before")
    @classmethod
    def _channels_start_wider(cls, content: Any) -> Any:
        """With one channel in a hundred, every layer would be a bottleneck of one or two."""
        if isinstance(content, Mapping) and content.get("group") == "output":
            return {"initial_sparsity": 0.5, **content}
        return content

    def optimizer(self, groups: list[dict[str, Any]], rule: LambdaRule) -> BregmanOptimizer:
        """The optimizer; those of these options that it knows by name are its hyperparameters."""
        known = signature(self.kind).parameters
        own = {name: value for name, value in self if name in known}
        return self.kind(groups, **own | {"lambda_rule": rule})


class SteeredOptions(BregmanOptions):
    """How λ is steered to the target.

    Attributes:
        ramp: Share of training in which the wanted sparsity goes from initial to target.
        ramp_power: Shape of the ramp: 3 is cubic, 1 linear.
        lambda_rule: `quantile`, `smoothed` (λ follows the quantile), `adaptive` (arXiv 2605.07892)
            or `fixed`.
        lambda_value: λ of the fixed rule, or the first λ of the adaptive rule, which else is found.
        alpha: Strength of the adaptive rule.
        damping: What the adaptive rule multiplies alpha by when the sign of the gap changes.
        smoothing: How slowly λ follows in the smoothed rule.
        every: Steps between two updates of λ.
        lambda_change: What stays when λ moves, see `sparsify.optim.dual_optimizer`.
    """

    ramp: Fraction = 0.1
    ramp_power: float = Field(default=3.0, gt=0)
    lambda_rule: SteeringRule = "quantile"
    lambda_value: float | None = Field(default=None, ge=0)
    alpha: float = Field(default=1.0, gt=0)
    damping: float = Field(default=1.0, gt=0, le=1)
    smoothing: float = Field(default=0.9, gt=0, lt=1)
    every: int = Field(default=2, ge=1)
    lambda_change: LambdaChange = "keep_dual"

    @model_validator(mode="after")
    def _fixed_rule_has_a_value(self) -> Self:
        given = self.lambda_value is not None
        if self.lambda_rule == "fixed" and not given:
            raise ValueError(
                "lambda_rule 'fixed' needs lambda_value (as in --set"
                " methods.adabreg.lambda_value=0.1)"
            )
        if self.lambda_rule in ("quantile", "smoothed") and given:
            raise ValueError(f"lambda_rule '{self.lambda_rule}' finds λ: leave lambda_value away")
        if self.lambda_change != "keep_dual" and self.lambda_rule not in ("adaptive", "fixed"):
            raise ValueError(
                f"lambda_change '{self.lambda_change}' needs lambda_rule 'adaptive' or 'fixed'"
            )
        if self.lambda_change == "rescale" and not self.lambda_value:
            raise ValueError("lambda_change 'rescale' divides by λ: give a positive lambda_value")
        return self


class LinBregStep(BregmanOptions):
    """How LinBreg's duals move.

    Attributes:
        lr: Peak step size τ.
        momentum: Exponential average of the gradient.
        nesterov: Whether the momentum looks ahead.
        weight_decay: Coupled decay of matrices and kernels.
    """

    lr: float = Field(default=1.0, gt=0)
    momentum: Beta = 0.9
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0)
    kind = LinBreg


class AdaBregStep(BregmanOptions):
    """How AdaBreg's duals move.

    Attributes:
        lr: Peak step size τ.
        betas: Decay rates of the moments.
        eps: Added to the root of the second moment, which a step is divided by.
        weight_decay: Decoupled decay of matrices and kernels.
    """

    lr: float = Field(default=3e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    kind = AdaBreg


class LinBregOptions(LinBregStep, SteeredOptions):
    """LinBreg's hyperparameters, and how λ is steered."""


class AdaBregOptions(AdaBregStep, SteeredOptions):
    """AdaBreg's hyperparameters, and how λ is steered."""


B = TypeVar("B", bound=BregmanOptions)
S = TypeVar("S", bound=SteeredOptions)


class BregmanMethod(Method[B], Generic[B]):
    """Sparse initialisation and a Bregman optimizer, which lands at the target.

    A trained network starts as it is; one that is on target has landed.
    """

    optimizer: BregmanOptimizer

    def __init__(self, task: Task, options: B) -> None:
        super().__init__(task, options)
        self.channels = DeadChannels(task) if options.group == "output" else None
        groups = self._start(task, options)
        groups.append({"params": list(task.head.parameters()), "regularizer": None})
        self.optimizer = options.optimizer(decay_groups(groups), self._rule())
        self.optimizer.weigh(self.steered.by_weight)
        self.landing_step = max(round(options.landing * task.steps), 1)
        if self.fate_of_zeros == "held":
            self.optimizer.hold()

    def _start(self, task: Task, options: B) -> list[dict[str, Any]]:
        """Makes the network sparse, and tells which parameters λ moves.

        Of channels, the rows of the weights that make them; at the end the columns that read them
        go, too, so that fewer rows than the target says are enough.
        """
        if self.channels is None:
            if not task.pretrained:
                initialise_sparse(
                    self.priced.weights,
                    options.initial_sparsity,
                    task.seed,
                    options.initial_allocation,
                )
            self.steered, self.steered_target = self.priced, task.target_sparsity
            self.initial_sparsity = self.priced.sparsity
            return parameter_groups(task.network, None, *task.selection)
        if not task.pretrained:
            self.channels.start(options.initial_sparsity, task.seed)
        makers = self.channels.makers
        self.steered_target = self.channels.share_of_makers(task.target_sparsity, makers)
        default = 0 if task.costs else 1
        costs = [beside(task.costs.get(name, default), w) for name, w in makers.items()]
        self.steered = PricedWeights(list(makers.values()), costs)
        self.initial_sparsity = self.steered.sparsity
        others = [name for name, _ in task.network.named_parameters() if name not in makers]
        return parameter_groups(task.network, GroupL1L2("output"), others)

    @property
    def dearest(self) -> int:
        """That of a weight, or of a channel."""
        return self.channels.groups.dearest if self.channels else super().dearest

    @property
    def lam(self) -> float:
        """λ now."""
        return self.optimizer.lam

    @property
    def settled(self) -> bool:
        """Whether the optimizer has landed."""
        return self.optimizer.landed

    @property
    def uses_gradients_of_zeros(self) -> bool:
        """Until the optimizer has landed: zeros have duals that move."""
        return not self.optimizer.landed

    def mask_gradients(self) -> None:
        """Zeroes those of a trained network's zeros, and of all zeros that landing holds."""
        super().mask_gradients()
        self.optimizer.mask_gradients()
        if self.channels:
            self.channels.mask_gradients()

    def state_dict(self) -> dict[str, Any]:
        """Also which channels are dead."""
        own = super().state_dict()
        if self.channels:
            own["channels"] = self.channels.state_dict()
            own["steered_target"] = self.steered_target
        return own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        super().load_state_dict(state)
        if self.channels:
            self.channels.load_state_dict(state["channels"])
            self.steered_target = state["steered_target"]

    def finish(self) -> None:
        """Lands if the landing step lies behind the last step."""
        if not self.optimizer.landed:
            self._land()

    @abstractmethod
    def _rule(self) -> LambdaRule:
        """How λ is chosen."""

    def _update(self) -> None:
        self.optimizer.step()
        if self.channels:
            self.channels.apply(self.optimizer)
            if self.steps_done % _AIM_EVERY == 0 and not self.optimizer.landed:
                self.steered_target = self.channels.share_of_makers(
                    self.target_sparsity, self._duals()
                )
        if self.steps_done == self.landing_step and not self.optimizer.landed:
            self._land()

    def _land(self) -> None:
        if self.channels is None:
            self.optimizer.land(self.target_sparsity, keep_layers=self.task.keep_layers)
            return
        makers = self.channels.makers
        self.channels.choose(self.target_sparsity, self._duals())
        self.optimizer.land_on({makers[n]: mask for n, mask in self.channels.masks(makers).items()})
        self.channels.apply(self.optimizer)

    def _duals(self) -> dict[str, Tensor]:
        """What stands for the weights that make channels."""
        assert self.channels is not None
        makers = self.channels.makers
        return {name: self.optimizer.dual(weight) for name, weight in makers.items()}


class SteeredMethod(BregmanMethod[S], Generic[S]):
    """λ follows a ramp to the target."""

    @property
    def schedule(self) -> Polynomial:
        """The ramp; of channels, to the share of rows that the target takes as it seems now."""
        task, options = self.task, self.options
        end = max(round(options.ramp * task.steps), 1)
        return Polynomial(self.initial_sparsity, self.steered_target, 0, end, options.ramp_power)

    def sparsity_target(self, step: int) -> float:
        """The ramp, then the target; of channels, until the landing, the share of their rows."""
        return self.target_sparsity if step >= self.landing_step else self.schedule(step)

    def _share_wanted(self, step: int) -> float:
        return self.schedule(step)

    def _rule(self) -> LambdaRule:
        o, target = self.options, self.schedule
        wanted: SparsitySchedule = target
        if self.task.pretrained:  # a ramp that starts gently from whatever is zero already
            wanted = Ramp(target.final, target.end, target.power)
        elif self.channels is not None:
            wanted = self._share_wanted
        if o.lambda_rule in ("quantile", "smoothed"):
            smoothing = o.smoothing if o.lambda_rule == "smoothed" else 0.0
            return QuantileLambda(wanted, o.every, smoothing)
        if o.lambda_rule == "fixed":
            assert o.lambda_value is not None  # validated
            return FixedLambda(o.lambda_value, o.every)
        return AdaptiveLambda(
            wanted,
            o.alpha,
            o.every,
            initial=o.lambda_value,
            warmup=target.end,
            damping=o.damping,
        )


class LinBregMethod(SteeredMethod[LinBregOptions]):
    """Linearised Bregman iterations."""

    Options = LinBregOptions


class AdaBregMethod(SteeredMethod[AdaBregOptions]):
    """Bregman iterations with Adam's step."""

    Options = AdaBregOptions
