"""Weights in fewer digits."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.formats import EIGHT_BITS, FOUR_BITS, HALF, SINGLE
from sparsify.artifact.levels import GRIDS
from sparsify.artifact.provenance import PRECISION, ROUNDED_FROM
from sparsify.errors import SparsifyError
from sparsify.tensors import array_of, tensor_of

_TYPES = {HALF: torch.float16}
_BITS = {EIGHT_BITS: 8, FOUR_BITS: 4}


def rounded(artifact: Artifact, precision: str) -> Artifact:
    """A model whose weights can be stored in a type without loss.

    What has two dimensions or more is rounded; norms, statistics and biases, which are few, stay.

    Args:
        artifact: A model of ours.
        precision: `fp32`, which changes nothing, `fp16`, `int8` or `int4`; the last two are levels
            with scales (`sparsify.artifact.levels`), in which no weight becomes zero.

    Raises:
        SparsifyError: A weight is too large for the type.
    """
    if precision in (SINGLE, artifact.precision):
        return artifact
    state = {
        name: _rounded(name, tensor, precision) if _is_weight(tensor) else tensor
        for name, tensor in artifact.state.items()
    }
    metadata = {
        **artifact.metadata,
        PRECISION: precision,
        ROUNDED_FROM: artifact.metadata.get("source_digest", ""),
    }
    return artifact.with_state(state, metadata=metadata)


def _is_weight(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 1 and tensor.numel() > 0


def _rounded(name: str, tensor: Tensor, precision: str) -> Tensor:
    if precision in _BITS:
        if not tensor.isfinite().all():
            raise SparsifyError(
                f"weight '{name}' has values that are no finite numbers: leave out --precision"
            )
        found = GRIDS[_BITS[precision]].rounded(array_of(tensor.float()))
        return tensor_of(found).to(tensor.dtype)
    dtype = _TYPES[precision]
    values = tensor.to(dtype).to(tensor.dtype)
    if not values.isfinite().all() and tensor.isfinite().all():
        raise SparsifyError(
            f"weight '{name}' has values up to {float(tensor.abs().max()):.3g}, too large for"
            f" {str(dtype).removeprefix('torch.')}: leave out --precision"
        )
    return values
