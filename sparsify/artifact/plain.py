"""Tensors that PyTorch's files hold, as tensors to count and compute with."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsify.errors import SparsifyError

_COUNTED = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    *(torch.complex128, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
_UNSIGNED = {torch.uint16, torch.uint32, torch.uint64}  # int64 holds them, or at least their bits


def plain(name: str, tensor: Tensor) -> Tensor:
    """A dense tensor of a type that can be counted and computed with.

    Raises:
        SparsifyError: There is none for this type.
    """
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    elif not _lies_in_its_storage(tensor):
        raise SparsifyError(f"tensor '{name}' reaches beyond the bytes that the file has for it")
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.dtype in _UNSIGNED:
        return tensor.to(torch.int64)
    packs_several = tensor.dtype is torch.float4_e2m1fn_x2
    if tensor.is_floating_point() and tensor.element_size() < 2 and not packs_several:
        return tensor.float()
    if tensor.dtype not in _COUNTED:
        raise SparsifyError(f"tensor '{name}' has the type {tensor.dtype}, which cannot be counted")
    return tensor.resolve_conj().resolve_neg()


def _lies_in_its_storage(tensor: Tensor) -> bool:
    """Whether all elements are there; before 2.14 torch does not look at that of quantised ones."""
    if not tensor.numel():
        return True
    if min(tensor.storage_offset(), *tensor.stride(), 0) < 0:
        return False
    extents = ((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    end = tensor.storage_offset() + sum(extents) + 1
    return bool(end * tensor.element_size() <= tensor.untyped_storage().nbytes())
