"""The arithmetic of the optimizers on a device, beside a plain one in numpy's float64.

A part of the device check. Zeros must be exactly where they belong; other numbers may differ by
the rounding of the type they are computed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparsify import L1, AdaBreg, AdaptiveLambda, FixedLambda, GroupL1L2, LinBreg, QuantileLambda
from sparsify.benchmarks.device_part import Row, Setting, attempt, failed
from sparsify.optim.bregman import BregmanOptimizer
from sparsify.optim.lambda_rules import LambdaRule

Array = NDArray[np.float64]
Groups = dict[str, tuple[int, ...]]

KINDS: dict[str, type[AdaBreg] | type[LinBreg]] = {"AdaBreg": AdaBreg, "LinBreg": LinBreg}
PRECISE = (torch.float32, torch.float64)
HALF = (torch.bfloat16, torch.float16)
SPARSITY, STEPS, EVERY, LR = 0.8, 12, 2, 0.02
# Dimensions of a weight (out, in, position) over which a group is summed.
GROUPS: Groups = {"kernel": (2,), "input": (0, 2), "output": (1, 2)}
# Relative; a trajectory adds up the rounding of all steps before.
_ROUNDING = {torch.float32: 3e-7, torch.float64: 1e-15}
_TRAJECTORY = {torch.float32: 1e-4, torch.float64: 1e-11}


def reference_soft_threshold(v: Array, limit: float) -> Array:
    """`argmin_w ½‖w − v‖² + limit·‖w‖₁`."""
    return np.sign(v) * np.maximum(np.abs(v) - limit, 0.0)


def group_threshold(v: Array, limit: float, dims: tuple[int, ...]) -> Array:
    """The same with `√n·‖w‖₂` of every group of n weights."""
    norm = np.sqrt(np.square(v).sum(axis=dims, keepdims=True))
    root = np.prod([v.shape[d] for d in dims]) ** 0.5
    return v * np.maximum(1 - limit * root / np.maximum(norm, np.finfo(float).tiny), 0.0)


def reference_quantile(values: Array, sparsity: float) -> float:
    """The smallest value that a share of all values does not exceed."""
    rank = max(round(sparsity * values.size), 1)
    return float(np.sort(values, axis=None)[rank - 1])


def kept(scores: Array, sparsity: float) -> NDArray[np.bool_]:
    """Which scores stay when the smallest share goes; among equal ones the later goes."""
    order = np.argsort(-scores.ravel(), kind="stable")
    mask = np.zeros(scores.size, dtype=bool)
    mask[order[: scores.size - round(sparsity * scores.size)]] = True
    return mask.reshape(scores.shape)


@dataclass
class Reference:
    """AdaBreg or LinBreg with ℓ1 on one vector, as they are written down, and its rule for λ.

    Attributes:
        kind: `AdaBreg` or `LinBreg`.
        rule: `quantile`, `adaptive` or `fixed`.
        dual: v.
        lam: λ.
    """

    kind: str
    rule: str
    dual: Array
    lam: float

    def __post_init__(self) -> None:
        self.first, self.second = np.zeros_like(self.dual), np.zeros_like(self.dual)
        self.dual = self.dual + self.lam * np.sign(self.dual)
        self.steps = 0

    def step(self, gradient: Array) -> Array:
        """Moves the dual and λ; returns the weights."""
        self.steps += 1
        self.dual = self.dual - self._update(gradient)
        due = self.steps % EVERY == 0
        if self.rule == "quantile" and (due or self.steps == 1):
            self.lam = reference_quantile(np.abs(self.dual), SPARSITY)
        weights = reference_soft_threshold(self.dual, self.lam)
        if self.rule == "adaptive" and due:
            gap = SPARSITY - float(np.mean(weights == 0))
            factor = 1 + abs(gap)
            self.lam = self.lam * factor if gap > 0 else self.lam / factor
        return weights

    def _update(self, gradient: Array) -> Array:
        beta = 0.9
        if self.kind == "LinBreg":
            self.first = beta * self.first + (1 - beta) * LR * gradient
            return self.first
        self.first = beta * self.first + (1 - beta) * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        mean = self.first / (1 - beta**self.steps)
        root = np.sqrt(self.second / (1 - 0.999**self.steps))
        return LR * mean / (root + 1e-8)


def device_rows(setting: Setting) -> Iterator[Row]:
    """The part of the device check: one row for each check, path and type."""
    size = 500 if setting.toy else 100_000
    checks: list[tuple[Row, Callable[..., Row]]] = []
    for dtype, kind in product(PRECISE + HALF, KINDS):
        head = {"path": "readable", "dtype": str(dtype), "optimizer": kind}
        checks.append((head | {"check": "soft threshold"}, partial(_prox, kind, dtype)))
        checks.append((head | {"check": "landing"}, partial(_landing, kind, dtype)))
    for dtype, group in product(PRECISE, GROUPS):
        head = {"path": "readable", "dtype": str(dtype), "check": f"prox of {group} groups"}
        checks.append((head, partial(_groups, group, dtype)))
    for dtype, ties in product(PRECISE, (False, True)):
        name = "order statistic" + (" with ties" if ties else "")
        head = {"path": "default", "dtype": str(dtype), "check": name}
        checks.append((head, partial(_quantiles, dtype, ties)))
    for dtype, kind, rule in product(PRECISE, KINDS, ("quantile", "adaptive", "fixed")):
        head = {"path": "readable", "dtype": str(dtype), "optimizer": kind, "check": f"{rule} λ"}
        checks.append((head, partial(_trajectory, kind, rule, dtype)))
    for head, check in checks:
        yield attempt(head, partial(check, size=size, device=setting.device))


def _prox(kind: str, dtype: torch.dtype, *, size: int, device: str) -> Row:
    """After every step the weights are the prox of their duals, to the last zero."""
    optimizer, weights = _optimizer(kind, "quantile", dtype, size, device)
    wrong, worst = 0, 0.0
    for step in range(STEPS // 2):
        _step(optimizer, weights, step)
        for weight in weights:
            dual = _numpy(optimizer.state[weight]["dual"])
            # λ in the type of the dual, rounded down: the same weights vanish.
            lam = _rounded_down(optimizer.lam, optimizer.state[weight]["dual"].dtype)
            exact = reference_soft_threshold(dual, lam)
            expected = _numpy(torch.from_numpy(exact).to(dtype))
            ours = _numpy(weight)
            wrong += int(((ours == 0) != (expected == 0)).sum())
            wrong += int((np.signbit(ours) & (ours == 0)).sum())
            worst = max(worst, _error(ours, expected, np.abs(expected)))
    rounding = _ROUNDING.get(dtype, float(torch.finfo(dtype).eps))
    return _verdict(wrong, worst, rounding)


def _landing(kind: str, dtype: torch.dtype, *, size: int, device: str) -> Row:
    """Exactly the zeros wanted, where thresholds are equal too, and they stay."""
    optimizer, (weight, other) = _optimizer(kind, "fixed", dtype, size, device)
    # Sixteenths, which every type holds: nearly all thresholds are shared.
    with torch.no_grad():
        for each in (weight, other):
            each.copy_(each.mul(32).round().div(16))
    optimizer.lam = 0.0
    scores = np.abs(np.concatenate([_numpy(weight).ravel(), _numpy(other).ravel()]))
    expected = kept(scores, SPARSITY)
    optimizer.land(SPARSITY)
    wrong = int((_masks(optimizer, weight, other) != expected).sum())
    for step in range(4):
        _step(optimizer, [weight, other], step)
        values = np.concatenate([_numpy(weight).ravel(), _numpy(other).ravel()])
        wrong += int((values[~expected] != 0).sum())
        wrong += int((_masks(optimizer, weight, other) != expected).sum())
        wrong += int((~np.isfinite(values)).sum())
    return _verdict(wrong, 0.0, 0.0)


def _masks(optimizer: BregmanOptimizer, *weights: Tensor) -> NDArray[np.bool_]:
    masks = [optimizer.state[weight]["mask"].cpu().numpy().ravel() for weight in weights]
    return np.concatenate(masks)


def _groups(group: Any, dtype: torch.dtype, *, size: int, device: str) -> Row:
    regularizer, dims = GroupL1L2(group), GROUPS[group]
    values = _random((max(size // 60, 4), 12, 5), seed=0).to(device, dtype)
    exact = _numpy(values)
    norms = np.sqrt(np.square(exact).mean(axis=dims, keepdims=True))
    limit = float(np.median(norms)) * 1.000001  # between two groups, so that rounding decides none
    ours = _numpy(regularizer.prox(values, limit))
    expected = group_threshold(exact, limit, dims)
    wrong = int(((ours == 0) != (expected == 0)).sum())
    wrong += int((np.signbit(ours) & (ours == 0)).sum())
    # The factor of a group is a difference of nearly equal numbers, and sums have many terms.
    return _verdict(
        wrong, _error(ours, expected, np.abs(exact).max(keepdims=True)), 30 * _ROUNDING[dtype]
    )


def _quantiles(dtype: torch.dtype, ties: bool, *, size: int, device: str) -> Row:
    """λ for a sparsity is an entry of the sorted duals, exactly."""
    values = _random((size,), seed=1).to(dtype)
    if ties:
        values = values.mul(8).round().div(8)
    weight = nn.Parameter(values.to(device))
    optimizer = LinBreg([{"params": [weight], "regularizer": L1()}], lr=LR)
    magnitudes = np.abs(_numpy(values))
    shares = (0.001, 0.1, 0.5, 0.9, 0.99, 0.999)
    wrong = sum(
        float(optimizer.lambda_for(share)) != reference_quantile(magnitudes, share)
        for share in shares
    )
    return _verdict(wrong, 0.0, 0.0)


def _trajectory(kind: str, rule: str, dtype: torch.dtype, *, size: int, device: str) -> Row:
    """λ, the number of zeros and the weights of every step, beside the reference."""
    optimizer, weights = _optimizer(kind, rule, dtype, size, device)
    start = np.concatenate([_numpy(weight).ravel() for weight in weights])
    reference = Reference(kind, rule, start, optimizer.lambda_rule.initial)
    worst, off = 0.0, 0
    for step in range(STEPS):
        gradients = _step(optimizer, weights, step)
        expected = reference.step(np.concatenate([g.ravel() for g in gradients]))
        ours = np.concatenate([_numpy(weight).ravel() for weight in weights])
        worst = max(worst, abs(optimizer.lam - reference.lam) / reference.lam)
        worst = max(worst, _error(ours, expected, np.abs(expected).max(keepdims=True)))
        off = max(off, abs(int((ours == 0).sum()) - int((expected == 0).sum())))
    # Rounding may carry a few weights over λ; not with the quantile, which counts them.
    borderline = 0 if rule == "quantile" else round(_TRAJECTORY[dtype] * len(start))
    row = _verdict(max(off - borderline, 0), worst, _TRAJECTORY[dtype])
    return row | {"zeros_off": off}


def _optimizer(
    kind: str, rule: str, dtype: torch.dtype, size: int, device: str
) -> tuple[BregmanOptimizer, list[nn.Parameter]]:
    """Two weights of a size in all."""
    rules: dict[str, LambdaRule] = {
        "quantile": QuantileLambda(SPARSITY, every=EVERY),
        "adaptive": AdaptiveLambda(SPARSITY, initial=0.05, every=EVERY),
        "fixed": FixedLambda(0.05, every=EVERY),
    }
    shapes = ((size // 10, 3, 3), (size - size // 10 * 9,))
    weights = [
        nn.Parameter(_random(shape, seed).to(device, dtype)) for seed, shape in enumerate(shapes)
    ]
    options: dict[str, Any] = {"momentum": 0.9} if kind == "LinBreg" else {}
    groups = [{"params": weights, "regularizer": L1()}]
    return KINDS[kind](groups, lr=LR, lambda_rule=rules[rule], fused=False, **options), weights


def _step(optimizer: BregmanOptimizer, weights: Sequence[nn.Parameter], step: int) -> list[Array]:
    """A step with random gradients, which are returned."""
    for index, weight in enumerate(weights):
        gradient = _random(weight.shape, seed=100 + 10 * step + index)
        weight.grad = gradient.to(weight.device, weight.dtype)
    optimizer.step()
    return [_numpy(weight.grad) for weight in weights if weight.grad is not None]


def _random(shape: Sequence[int], seed: int) -> Tensor:
    """Drawn on the CPU in float32, so that all devices and types see the same numbers."""
    return 0.1 * torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()


def _rounded_down(value: float, dtype: torch.dtype) -> float:
    rounded = torch.tensor(value, dtype=dtype)
    if float(rounded) > value:
        rounded = rounded.nextafter(torch.zeros_like(rounded))
    return float(rounded)


def _error(ours: Array, expected: Array, scale: Array) -> float:
    """The largest error as a share of a scale; infinite if a number is not finite."""
    if not (np.isfinite(ours).all() and np.isfinite(expected).all()):
        return float("inf")
    difference = np.abs(ours - expected)
    shares = np.divide(difference, scale, out=np.zeros_like(difference), where=scale > 0)
    return float(shares.max())


def _verdict(wrong: int, worst: float, tolerance: float) -> Row:
    row: Row = {"wrong": wrong, "worst_error": worst, "tolerance": tolerance}
    if wrong or not worst <= tolerance:
        row |= failed(f"{wrong} numbers are wrong, the worst error is {worst:.2g}")
    return row
