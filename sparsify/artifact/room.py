"""How large what a file describes may become. Importing this module takes no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparsify.errors import SparsifyError

_FREE = 1 << 30  # bytes that even a tiny file may become
_TIMES = 64  # its own size that a file may become
MOST_DIMENSIONS = 16


class Room:
    """How many bytes the tensors of a file may take, zeros and repetitions written out.

    A file of a kilobyte can describe a sparse or repeated tensor of a terabyte.

    Args:
        stored: Bytes that are on disk.
    """

    def __init__(self, stored: int) -> None:
        self._left = max(_FREE, _TIMES * stored)

    def take(self, what: str, shape: Sequence[int], item_bytes: int) -> None:
        """Notes a tensor before it is made.

        Raises:
            SparsifyError: It is no shape, or there is no room for it.
        """
        check_shape(what, shape)
        needed = math.prod(shape) * item_bytes
        if needed > self._left:
            raise SparsifyError(
                f"{what} would take {needed} bytes once written out, which is absurd for a file of"
                " that size"
            )
        self._left -= needed


def check_shape(what: str, shape: Sequence[int]) -> None:
    """Refuses a shape that no tensor can have.

    Raises:
        SparsifyError: It has a negative size, or too many sizes, or is too large to be indexed.
    """
    if len(shape) > MOST_DIMENSIONS:
        raise SparsifyError(f"{what} has {len(shape)} dimensions")
    if min(shape, default=0) < 0 or math.prod(max(size, 1) for size in shape) >= 2**62:
        raise SparsifyError(f"{what} cannot have shape {list(shape)}")
