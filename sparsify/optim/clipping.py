"""A limit on the norm of the gradient, for networks with many zeros."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sparsify.optim.sharding import is_dtensor, local


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
    weights = [weight for weight in weights if weight.grad is not None]
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    zeros = [weight == 0 for weight in weights]
    apart = [g.masked_fill(~zero, 0.0) for g, zero in zip(gradients, zeros, strict=True)]
    for gradient, zero in zip(gradients, zeros, strict=True):
        gradient.masked_fill_(zero, 0.0)
    norm = _whole(nn.utils.clip_grad_norm_([*weights, *others], max_norm))
    norm_apart = _whole(nn.utils.get_total_norm(apart)).to(norm)
    factor = (max_norm / (norm_apart + 1e-6)).clamp(max=1.0)
    for gradient, part in zip(gradients, apart, strict=True):
        local(gradient).addcmul_(local(part), factor.to(local(part)))
    return torch.where(norm_apart.isfinite(), norm, norm_apart)


def _whole(norm: Tensor) -> Tensor:
    return norm.full_tensor() if is_dtensor(norm) else norm  # type: ignore[attr-defined]
