"""PyTorch's tensors as numpy's arrays and back, whose elements they share.

Files are read into arrays, since PyTorch's import takes seconds; tensors are what networks take.
"""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from sparsify.arrays import Array, is_native
from sparsify.errors import SparsifyError

_BITS = {1: (np.uint8, torch.uint8), 2: (np.int16, torch.int16)}
"""Types of as many bytes that both have."""


def tensor_of(array: Array) -> Tensor:
    """The tensor of an array, which must be writable."""
    if is_native(array.dtype):
        return torch.from_numpy(np.asarray(array))  # numpy makes numbers of what has no dimensions
    bits = torch.from_numpy(array.view(_BITS[array.itemsize][0]))
    return bits.view(getattr(torch, array.dtype.name))


def tensors_of(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """The tensors of arrays, by name."""
    return {name: tensor_of(array) for name, array in arrays.items()}


def array_of(tensor: Tensor) -> Array:
    """The array of a dense tensor, copied where it is not on the CPU.

    Of a `DTensor` it is that of the whole, for which all processes have to call.
    """
    if hasattr(tensor, "full_tensor"):
        tensor = tensor.full_tensor()
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    name = str(tensor.dtype).removeprefix("torch.")
    if not tensor.is_floating_point() or hasattr(np, name):
        array: Array = tensor.numpy()
        return array
    bits = tensor.view(_BITS[tensor.element_size()][1]).numpy()
    return bits.view(getattr(ml_dtypes, name))


def arrays_of(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """The arrays of dense tensors, by name.

    Raises:
        SparsifyError: One is of a type or layout that no array has, or has no values.
    """
    arrays = {}
    for name, tensor in tensors.items():
        try:
            arrays[name] = array_of(tensor)
        except (TypeError, AttributeError, NotImplementedError) as error:
            kind = f"{tensor.dtype} ({tensor.layout} on {tensor.device})"
            raise SparsifyError(
                f"tensor '{name}' of type {kind} cannot be stored or counted"
            ) from error
    return arrays
