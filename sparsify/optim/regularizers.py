"""Sparsity-promoting regularizers R, and the parameter groups of a network that have one.

A regularizer has a prox, a subgradient, and thresholds. The elastic-net functional of Bregman
training is `J(w) = λ·R(w) + ‖w‖²/(2δ)` (Bungert et al., JMLR 23(192), 2022).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparsify.optim.sharding import local, local_like, reduced_like
from sparsify.sparsity.prunable import prunable_parameters

Tensors = tuple[Tensor, ...] | list[Tensor]  # what torch's functions of many tensors take


class Regularizer(ABC):
    """A convex, absolutely one-homogeneous function of one parameter tensor."""

    @abstractmethod
    def prox(self, x: Tensor, threshold: Tensor | float) -> Tensor:
        """Solves `argmin_w ½‖w − x‖² + threshold·R(w)`; zeros come out as `+0.0`."""

    @abstractmethod
    def subgradient(self, w: Tensor) -> Tensor:
        """An element of `∂R(w)`, zero where `w` is zero; same shape as `w`."""

    @abstractmethod
    def thresholds(self, v: Tensor) -> Tensor:
        """For every group of weights the largest λ at which it is not yet zero.

        A weight is zero after `prox(v, λ)` if and only if λ is at least its threshold.

        Returns:
            A tensor that broadcasts to `v`; all groups of one parameter are equally large.
        """


class L1(Regularizer):
    """`R(w) = Σ|w|`: every weight on its own; the prox is soft thresholding."""

    def prox(self, x: Tensor, threshold: Tensor | float) -> Tensor:
        """Soft thresholding `max(x − threshold, 0) + min(x + threshold, 0)`."""
        limit = torch.as_tensor(threshold, dtype=x.dtype, device=x.device)
        return local_like(x, soft_threshold([local(x)], limit)[0])

    def subgradient(self, w: Tensor) -> Tensor:
        """`sign(w)`."""
        return torch.sign(w)

    def thresholds(self, v: Tensor) -> Tensor:
        """`|v|`."""
        return v.abs()

    def __repr__(self) -> str:
        return "L1()"


def soft_threshold(values: Tensors, limit: Tensor) -> Tensors:
    """The prox of ℓ1 for several tensors at once.

    Args:
        values: One at least, all of one type and on one device.
        limit: 0-dim, like them; the host does not look at it.
    """
    above = torch._foreach_add(values, limit, alpha=-1)
    torch._foreach_clamp_min_(above, 0.0)
    below = torch._foreach_add(values, limit, alpha=1)  # without alpha the host would look
    torch._foreach_clamp_max_(below, 0.0)
    torch._foreach_add_(above, below)
    return above


class GroupL1L2(Regularizer):
    """`R(w) = √n·Σ‖w_group‖₂`: whole groups of n weights vanish together.

    Args:
        group: What a group of a weight `(out, in, …)` is: one `kernel` (all positions of one
            output–input pair), one `input` channel or one `output` channel. Of a transposed
            convolution, whose weight is `(in, out, …)`, `input` and `output` change places.

    Raises:
        ValueError: The group is unknown.
    """

    def __init__(self, group: Literal["kernel", "input", "output"] = "kernel") -> None:
        if group not in ("kernel", "input", "output"):
            raise ValueError(f"group must be 'kernel', 'input' or 'output', not '{group}'")
        self.group = group

    def prox(self, x: Tensor, threshold: Tensor | float) -> Tensor:
        """Group soft thresholding `x·max(1 − threshold·√n/‖x_group‖, 0)`."""
        size = local(reduced_like(x, self.thresholds(x)))
        # This form of the factor is zero exactly where the threshold is reached. Adding zero turns
        # -0.0, which a negative entry times zero gives, into +0.0.
        factor = (size - threshold).clamp(min=0) / _positive(size)
        return local_like(x, local(x) * factor + 0.0)

    def subgradient(self, w: Tensor) -> Tensor:
        """`√n·w/‖w_group‖`, zero for a group of zeros."""
        size = local(reduced_like(w, self.thresholds(w)))
        return local_like(w, local(w) / _positive(size))

    def thresholds(self, v: Tensor) -> Tensor:
        """`‖v_group‖/√n`, one for each group."""
        first = 2 if self.group == "kernel" else 1
        dims = list(range(first, v.dim()))
        if self.group == "input":
            dims = [0, *range(2, v.dim())]
        if not dims or not v.dim():  # a linear layer's kernel is a single weight
            return v.abs()
        norm = torch.linalg.vector_norm(v, dim=dims, keepdim=True)
        return norm / math.sqrt(max(math.prod(v.shape[d] for d in dims), 1))

    def __repr__(self) -> str:
        return f"GroupL1L2(group={self.group!r})"


def parameter_groups(
    model: nn.Module,
    regularizer: Regularizer | None = None,
    ignore: Sequence[str] = (),
    include: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Splits a network's parameters into optimizer groups.

    Args:
        model: The network to make sparse.
        regularizer: For the prunable weights; ℓ1 when not given.
        ignore: Glob patterns of parameter names to protect.
        include: Glob patterns of other parameters to make sparse, such as those of an LSTM.

    Raises:
        SparsifyError: A pattern matches no such parameter.

    Returns:
        A group of the prunable weights with `regularizer` and `lambda_scale` (its share of λ), and
        a group of all others with `regularizer=None`.
    """
    prunable = list(prunable_parameters(model, ignore, include).values())
    chosen = {id(p) for p in prunable}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": prunable, "regularizer": regularizer or L1(), "lambda_scale": 1.0},
        {"params": rest, "regularizer": None},
    ]
    return [group for group in groups if group["params"]]


def _positive(size: Tensor) -> Tensor:
    return size.clamp(min=torch.finfo(size.dtype).tiny)
