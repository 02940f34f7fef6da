"""The bitmask packing of a sparse tensor: its nonzeros and one bit per element."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsify.arrays import Array
from sparsify.artifact.room import MOST_DIMENSIONS, check_shape
from sparsify.errors import SparsifyError

_INTEGERS = (np.int64, np.int32, np.int16, np.int8, np.uint8)


@dataclass(frozen=True)
class Packed:
    """A tensor without its zeros.

    Attributes:
        compressed: The nonzero elements in row-major order, 1-D, in the tensor's type.
        bitmask: One bit per element of the flattened tensor, 1 where it is not zero; uint8,
            least significant bit first, the last byte padded with zeros.
        shape: Shape of the tensor, int64.
    """

    compressed: Array
    bitmask: NDArray[np.uint8]
    shape: NDArray[np.integer]


def pack(tensor: Array) -> Packed:
    """Packs a tensor; takes `nonzero · itemsize + elements / 8` bytes and the shape.

    `-0.0` counts as zero and comes back as `+0.0`; NaN and infinities survive.
    """
    flat = tensor.reshape(-1)
    mask = flat != 0
    return Packed(
        compressed=flat[mask],
        bitmask=np.packbits(mask, bitorder="little"),
        shape=np.array(tensor.shape, dtype=np.int64),
    )


def unpack(packed: Packed) -> Array:
    """The dense tensor, with `+0.0` for every zero.

    Raises:
        SparsifyError: The three parts contradict each other.
    """
    sizes, bits = packed.shape, packed.bitmask
    if bits.dtype != np.uint8 or sizes.dtype not in _INTEGERS or sizes.size > MOST_DIMENSIONS:
        raise SparsifyError(
            f"a bitmask must be uint8 with a shape of a few integers, got {bits.dtype} with"
            f" {sizes.size} of {sizes.dtype}"
        )
    shape = sizes.reshape(-1).tolist()
    check_shape("it", shape)
    elements = math.prod(shape)
    if bits.shape != ((elements + 7) // 8,):
        raise SparsifyError(f"a bitmask of {bits.size} bytes does not fit shape {shape}")
    mask = np.unpackbits(bits, bitorder="little")
    if mask[elements:].any() or packed.compressed.shape != (int(mask.sum()),):
        raise SparsifyError(
            f"a bitmask marks {int(mask.sum())} nonzeros but {packed.compressed.size} are stored"
        )
    flat: Array = np.zeros(elements, packed.compressed.dtype)
    flat[mask[:elements].view(bool)] = packed.compressed
    return flat.reshape(shape)
