"""Clipping the gradients of an optimizer as torch does, without what a step ignores."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparsify.optim.sparse_optimizer import SparseOptimizer


def clip_grad_norm_(
    optimizer: Optimizer,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """`torch.nn.utils.clip_grad_norm_` for all parameters of an optimizer, once it has masked.

    The gradients of weights that landing holds at zero may be the largest by orders of magnitude,
    and would leave nothing of the others; a step ignores them.

    Args:
        optimizer: One of ours, or any other, of which nothing is masked.
        max_norm: The largest norm of all gradients together.
        norm_type: p of the p-norm, may be `inf`.
        error_if_nonfinite: Whether to raise where the norm is not finite.
        foreach: As in torch.

    Returns:
        The norm before clipping, without what is masked, 0-dim.

    Raises:
        RuntimeError: The norm is not finite, and `error_if_nonfinite` is set.
    """
    if isinstance(optimizer, SparseOptimizer):
        optimizer.mask_gradients()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return torch.nn.utils.clip_grad_norm_(
        parameters, max_norm, norm_type, error_if_nonfinite, foreach
    )
