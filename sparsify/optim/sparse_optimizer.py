"""What all optimizers with a λ share: rule, measurement, checks and state."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparsify.optim.lambda_rules import FixedLambda, LambdaRule, Start
from sparsify.optim.regularizers import Regularizer
from sparsify.optim.sharding import Shards, is_dtensor, is_flattened, local, reduced_like
from sparsify.optim.state import check_state, precise, restore
from sparsify.sparsity.costs import Cost, total_cost

Groups = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


class SparseOptimizer(Optimizer):
    """An optimizer that steers the sparsity of the weights whose group has a `regularizer`.

    Those weights are one set for everything: λ is chosen for all of them, moves all of them, and
    the sparsity is that of all, whether or not a step has given them a gradient. Only those that
    are frozen (`requires_grad=False`) are neither moved nor counted.

    Attributes:
        lambda_rule: Chooses λ.
    """

    _CONTROL: ClassVar[tuple[str, ...]] = ("lambda_rule", "_lam", "_sparsity", "_steps", "_costs")

    def __init__(self, params: Groups, defaults: dict[str, Any], rule: LambdaRule | None) -> None:
        super().__init__(params, {"regularizer": None, "lambda_scale": 1.0, **defaults})
        if rule is not None and all(g["regularizer"] is None for g in self.param_groups):
            raise ValueError(
                "lambda_rule has no weights to make sparse, as no parameter group has a"
                f" regularizer: give {type(self).__name__} parameter_groups(model), or groups with"
                " regularizer=L1()"
            )
        self.lambda_rule = rule or FixedLambda(0.0)
        device = self._device()
        self._lam = torch.tensor(self.lambda_rule.initial, dtype=torch.float64, device=device)
        self._sparsity = torch.full_like(self._lam, float("nan"))
        self._steps = 0
        self._costs: dict[Tensor, Cost] = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters, with hyperparameters of their own where given.

        Raises:
            ValueError: A hyperparameter is out of range, or a parameter is complex.
        """
        super().add_param_group(param_group)
        try:
            self._check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @property
    def lam(self) -> float:
        """λ now; reading it waits for the device."""
        return float(self._lam)

    @lam.setter
    def lam(self, value: float) -> None:
        self._check_lambda(value)
        self._change_lambda(torch.full_like(self._lam, value))

    @property
    def sparsity(self) -> float:
        """Share of exact zeros among the regularised weights, as last measured by the rule.

        A share of the weights' cost where they are weighed.

        NaN before the first measurement; 0 where no weights are regularised.
        """
        return float(self._sparsity)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates the weights, and λ when that is due.

        A first step with learning rate 0 and gradients 0 does nothing but make the state: with such
        a step `torch.distributed.checkpoint` asks for it.

        Args:
            closure: Evaluates the model again and returns the loss.

        Returns:
            What the closure returned.

        Raises:
            RuntimeError: A gradient is a sparse tensor.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._makes_state_only():
            for group in self.param_groups:
                for parameter in self._moving(group)[0]:
                    self._prepare(group, parameter)
            return loss
        device = self._device()
        self._lam, self._sparsity = self._lam.to(device), self._sparsity.to(device)
        self._steps += 1
        if not self.lambda_rule.begun and self._steers():
            self._begin()
        self._advance()
        return loss

    def weigh(self, costs: Mapping[Tensor, Cost]) -> None:
        """Lets weights count for what they cost: every sparsity is then a share of that.

        With the multiply-adds of each weight as its cost, a sparsity of 0.9 leaves a tenth of them.
        The state does not hold the costs: give them again before it is loaded.

        Args:
            costs: By parameter; a whole number for all weights of it, or int64 of its shape, where
                it lies. The weights of other parameters count for one each.

        Raises:
            ValueError: Costs differ within a parameter that several processes hold in parts.
        """
        for parameter, cost in costs.items():
            if not isinstance(cost, int) and is_dtensor(parameter):
                raise ValueError("weights of a sharded parameter must all cost the same")
        self._costs = {
            parameter: cost
            for parameter, cost in costs.items()
            if not (isinstance(cost, int) and cost == 1)
        }

    @torch.no_grad()
    def measure_sparsity(self) -> Tensor:
        """Counts the exact zeros of the regularised weights now; 0-dim, without a device sync."""
        weights = [parameter for _, parameter in self._regularised()]
        shards = Shards(weights)
        nonzero = self._nonzero([w for w in weights if shards.counter(w) == shards.rank])
        size = self._total(weights)
        share = shards.sum(nonzero).double() / max(size, 1)
        self._sparsity = 1 - share if size else share
        return self._sparsity

    def mask_gradients(self) -> None:
        """Zeroes the gradients of weights that the next step holds at zero; here there are none."""

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer and its λ rule; holds tensors and plain values only."""
        state = super().state_dict()
        for group in state["param_groups"]:
            del group["regularizer"]
        # Distributed checkpoints keep nothing but parameter states and parameter groups.
        state["param_groups"][0]["control"] = self._control_state()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict()`; regularizers and rule stay those of this optimizer.

        A hyperparameter that an older state does not know yet has its default.

        Raises:
            ValueError: The state is not that of such an optimizer with such groups.
        """
        groups = [self.defaults | group for group in state_dict["param_groups"]]
        if not groups:
            raise ValueError(f"this is not a state of {type(self).__name__}: it has no groups")
        control = groups[0].pop("control", None)
        if control is None:
            raise ValueError(f"this is not a state of {type(self).__name__}: it holds no λ")
        if (kind := control.get("optimizer", type(self).__name__)) != type(self).__name__:
            raise ValueError(f"this is a state of {kind}, not of {type(self).__name__}")
        check_state(self, state_dict)
        # Distributed checkpoints leave out what is empty.
        self.lambda_rule.load_state_dict(control.get("rule", {}))
        own = [group["regularizer"] for group in self.param_groups]
        super().load_state_dict({**state_dict, "param_groups": groups})
        for group, regularizer in zip(self.param_groups, own, strict=True):
            group["regularizer"] = regularizer
        restore(self, state_dict)
        self._load_control(control)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # torch adds it, our steps never are

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {name: getattr(self, name) for name in self._CONTROL}

    @abstractmethod
    def _advance(self) -> None:
        """One step from the gradients that the parameters hold."""

    def _prepare(self, group: dict[str, Any], parameter: Tensor) -> dict[str, Any]:
        """The state of a parameter, made where it is missing."""
        state = self.state[parameter]
        if group.get("momentum") and "momentum_buffer" not in state:
            state["momentum_buffer"] = precise(torch.zeros_like(parameter))
        return state

    def _device(self) -> torch.device:
        """Where the parameters are, as far as there are any."""
        devices = (p.device for group in self.param_groups for p in group["params"])
        return next(devices, torch.device("cpu"))

    def _steers(self) -> bool:
        """Whether there is anything whose sparsity λ could change; nobody waits for the device."""
        return any(parameter.numel() for _, parameter in self._regularised())

    def _begin(self) -> None:
        """Tells the rule from where it steers."""
        self._lam = self.lambda_rule.begin(self._lam, self._start, self._steps)

    def _start(self) -> Start:
        """What a rule may want to know of the weights before it moves them."""
        weights = list(self._regularised())
        shards = Shards(parameter for _, parameter in weights)
        total = torch.zeros_like(self._lam)
        for group, parameter in weights:
            if shards.counter(parameter) == shards.rank:
                scale = group.get("delta", 1.0) * group["lambda_scale"]
                sizes = local(parameter).abs() * self._cost(parameter)
                total += sizes.sum(dtype=torch.float64) / scale
        count, sparsity = self._total([p for _, p in weights]), self.measure_sparsity()
        nonzero = ((1 - sparsity) * count).round().clamp(min=1)
        return Start(sparsity, shards.sum(total) / nonzero, count)

    def _makes_state_only(self) -> bool:
        if self.state or any(group["lr"] != 0 for group in self.param_groups):
            return False
        gradients = [gradient for group in self.param_groups for gradient in self._moving(group)[1]]
        # Sums of sizes, because squares can underflow.
        sums = [reduced_like(g, torch.linalg.vector_norm(g, 1)) for g in gradients]
        return all(float(local(total)) == 0 for total in sums)

    def _cost(self, parameter: Tensor) -> Cost:
        return self._costs.get(parameter, 1)

    def _total(self, weights: Sequence[Tensor]) -> int:
        return total_cost(weights, [self._cost(weight) for weight in weights])

    def _nonzero(self, weights: Sequence[Tensor]) -> Tensor:
        """What those parts of weights cost that this process holds and that are not zero, 0-dim."""
        equal: dict[int, list[Tensor]] = {}
        total = torch.zeros((), dtype=torch.int64, device=self._lam.device)
        for weight in weights:
            cost = self._cost(weight)
            if isinstance(cost, int):
                equal.setdefault(cost, []).append(local(weight))
            else:
                total = total + (cost * (weight != 0)).sum()
        return sum((cost * self._count_nonzero(own) for cost, own in equal.items()), total)

    def _count_nonzero(self, weights: Sequence[Tensor]) -> Tensor:
        none = torch.zeros((), dtype=torch.int64, device=self._lam.device)
        return sum((torch.count_nonzero(weight) for weight in weights), none)

    def _check_lambda(self, value: float) -> None:
        if not 0 <= value < math.inf:
            raise ValueError(f"λ must be finite and not negative: {value}")

    def _change_lambda(self, lam: Tensor) -> None:
        self._lam = lam

    def _control_state(self) -> dict[str, Any]:
        return {
            "optimizer": type(self).__name__,
            "lambda": self._lam.clone(),
            "sparsity": self._sparsity.clone(),
            "steps": self._steps,
            "rule": self.lambda_rule.state_dict(),
        }

    def _load_control(self, control: dict[str, Any]) -> None:
        self._lam = control["lambda"].to(self._lam)
        self._sparsity = control["sparsity"].to(self._lam)
        self._steps = control["steps"]

    def _check_group(self, group: dict[str, Any]) -> None:
        for name in ("lr", "weight_decay"):
            if not 0 <= group[name] < math.inf:
                raise ValueError(f"{name} must be finite and not negative: {group[name]}")
        if not 0 <= group.get("momentum", 0) < 1:
            raise ValueError(f"momentum must lie in [0, 1): {group['momentum']}")
        regularizer = group["regularizer"]
        if regularizer is not None and not isinstance(regularizer, Regularizer):
            raise ValueError(f"regularizer must be None or a Regularizer: {regularizer!r}")
        if not (scale := group["lambda_scale"]) > 0:
            raise ValueError(
                f"lambda_scale must be positive (None as regularizer frees a group of λ): {scale}"
            )
        if any(parameter.is_complex() for parameter in group["params"]):
            raise ValueError(f"{type(self).__name__} does not support complex parameters")
        if any(is_flattened(parameter) for parameter in group["params"]):
            raise ValueError(
                f"{type(self).__name__} does not support FullyShardedDataParallel (FSDP1), which"
                " flattens the weights: use torch.distributed.fsdp.fully_shard (FSDP2)"
            )

    def _moving(self, group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters of a group that have a gradient, and the gradients."""
        parameters = [p for p in group["params"] if p.requires_grad and p.grad is not None]
        gradients = [parameter.grad for parameter in parameters]
        if any(gradient.is_sparse for gradient in gradients):
            raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
        return parameters, gradients

    def _idle(self, group: dict[str, Any]) -> list[Tensor]:
        """The regularised parameters of a group that have no gradient in this step."""
        if group["regularizer"] is None:
            return []
        return [p for p in group["params"] if p.requires_grad and p.grad is None]

    def _regularised(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for group in self.param_groups:
            if group["regularizer"] is not None:
                yield from ((group, p) for p in group["params"] if p.requires_grad)
