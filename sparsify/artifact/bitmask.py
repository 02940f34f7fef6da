"""The bitmask packing of a sparse tensor: its nonzeros and one bit per element."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsify.artifact.room import MOST_DIMENSIONS, check_shape
from sparsify.errors import SparsifyError

_INTEGERS = {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}


@dataclass(frozen=True)
class Packed:
    """A tensor without its zeros.

    Attributes:
        compressed: The nonzero elements in row-major order, 1-D, in the tensor's type.
        bitmask: One bit per element of the flattened tensor, 1 where it is not zero; uint8,
            least significant bit first, the last byte padded with zeros.
        shape: Shape of the tensor, int64.
    """

    compressed: Tensor
    bitmask: Tensor
    shape: Tensor


def pack(tensor: Tensor) -> Packed:
    """Packs a tensor; takes `nonzero · itemsize + elements / 8` bytes and the shape.

    `-0.0` counts as zero and comes back as `+0.0`; NaN and infinities survive.
    """
    flat = tensor.detach().cpu().reshape(-1)
    mask = flat != 0
    return Packed(
        compressed=flat[mask],
        bitmask=torch.from_numpy(np.packbits(mask.numpy(), bitorder="little")),
        shape=torch.tensor(tensor.shape, dtype=torch.int64),
    )


def unpack(packed: Packed) -> Tensor:
    """The dense tensor, with `+0.0` for every zero.

    Raises:
        SparsifyError: The three parts contradict each other.
    """
    sizes, bits = packed.shape, packed.bitmask
    if bits.dtype != torch.uint8 or sizes.dtype not in _INTEGERS or sizes.numel() > MOST_DIMENSIONS:
        raise SparsifyError(
            f"a bitmask must be uint8 with a shape of a few integers, got {bits.dtype} with"
            f" {sizes.numel()} of {sizes.dtype}"
        )
    shape = sizes.reshape(-1).tolist()
    check_shape("it", shape)
    elements = math.prod(shape)
    if bits.shape != ((elements + 7) // 8,):
        raise SparsifyError(f"a bitmask of {bits.numel()} bytes does not fit shape {shape}")
    mask = np.unpackbits(bits.numpy(), bitorder="little")
    if mask[elements:].any() or packed.compressed.shape != (int(mask.sum()),):
        raise SparsifyError(
            f"a bitmask marks {int(mask.sum())} nonzeros but {packed.compressed.numel()} are stored"
        )
    flat = torch.zeros(elements, dtype=packed.compressed.dtype)
    flat[torch.from_numpy(mask[:elements].view(bool))] = packed.compressed
    return flat.reshape(shape)
