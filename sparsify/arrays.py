"""What files hold: numpy's arrays, also of types that numpy has from `ml_dtypes`.

Importing this module takes no torch.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import SparsifyError

Array: TypeAlias = NDArray[Any]

_NATIVE = 1  # what numpy says of its own types
_COUNTED = "bfloat16"
"""The one type among the others in which weights are computed with."""


def is_native(dtype: np.dtype[Any]) -> bool:
    """Whether numpy has a type of itself; the others are floats of few digits."""
    return dtype.isbuiltin == _NATIVE


def is_floating(array: Array) -> bool:
    """Whether it holds floats, complex numbers not among them."""
    return array.dtype.kind == "f" or not is_native(array.dtype)


def countable(name: str, array: Array) -> Array:
    """An array of a type that can be counted and computed with, of the same values.

    Raises:
        SparsifyError: There is none for this type.
    """
    if not is_native(array.dtype) and array.dtype.name != _COUNTED:
        return array.astype(np.float32)
    if array.dtype.kind == "u" and array.itemsize > 1:
        return array.astype(np.int64)  # which holds them, or at least their bits
    if array.dtype.kind not in "fiucbV":
        raise SparsifyError(f"tensor '{name}' has the type {array.dtype}, which cannot be counted")
    return array
