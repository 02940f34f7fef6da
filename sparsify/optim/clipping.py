"""A limit on the norm of the gradient, for networks with many zeros."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sparsify.optim.sharding import is_dtensor, local, local_like


@torch.no_grad()
def clip_gradients(weights: Iterable[Tensor], others: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales gradients so that their norm is at most `max_norm`, those of zero weights apart.

    Behind a channel that has lost its inputs, batch norm divides by next to nothing, so that the
    gradients of zeros can be larger than all others by orders of magnitude. Clipped together, as by
    `torch.nn.utils.clip_grad_norm_`, they leave nothing of the gradients of what is trained.

    Args:
        weights: The parameters that are to be sparse.
        others: All others.
        max_norm: Limit on the norm over zero weights, and on that over everything else.

    Returns:
        The norm over everything else before clipping, 0-dim; not finite where either is not.
    """
    sparse = [weight for weight in weights if weight.grad is not None]
    apart = [weight.grad for weight in sparse if weight.grad is not None]
    rest = [other.grad for other in others if other.grad is not None]
    alive = [_alive(weight, gradient) for weight, gradient in zip(sparse, apart, strict=True)]
    for gradient, part in zip(apart, alive, strict=True):
        gradient.sub_(part)
    norm, norm_apart = (_norm(parts) for parts in ([*alive, *rest], apart))
    factor, factor_apart = (
        (max_norm / (each + 1e-6)).clamp(max=1.0) for each in (norm, norm_apart)
    )
    for gradient, part in zip(apart, alive, strict=True):
        local(gradient).mul_(factor_apart).addcmul_(local(part), factor)
    for gradient in rest:
        local(gradient).mul_(factor)
    return torch.where(norm_apart.isfinite(), norm, norm_apart)


def _alive(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient, but 0 where the weight is."""
    own = local(gradient)
    mask = torch.ne(local(weight), 0, out=torch.empty_like(own))
    # Infinity times 0 is not a number: what overflowed behind zeros must not spoil the others.
    part = mask.mul_(own).nan_to_num_(0.0, torch.inf, -torch.inf)
    return local_like(gradient, part)


def _norm(gradients: list[Tensor]) -> Tensor:
    norm = nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if is_dtensor(norm) else norm  # type: ignore[attr-defined]
