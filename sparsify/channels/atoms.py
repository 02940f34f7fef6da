"""Sets of channels that stay or go together."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int64]
ANY = -2
"""In place of an atom: an element that belongs to no channel, as a constant does."""
FIXED = -1
"""In place of an atom: an element that stays, as the features do."""


class Atoms:
    """Numbered channels, which ties join into sets (union-find).

    Attributes:
        fixed: Channels that must stay.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self.fixed: set[int] = set()

    @property
    def count(self) -> int:
        """How many channels there are."""
        return len(self._parents)

    def new(self, count: int) -> Ids:
        """Channels that belong to no others yet."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        return np.arange(first, first + count)

    def root(self, atom: int) -> int:
        """The channel that stands for the set of another."""
        path = []
        while self._parents[atom] != atom:
            path.append(atom)
            atom = self._parents[atom]
        for each in path:
            self._parents[each] = atom
        return atom

    def roots(self) -> Ids:
        """Of each channel the one that stands for its set; `ANY` and `FIXED` index themselves."""
        own = [self.root(atom) for atom in range(self.count)]
        return np.array([*own, ANY, FIXED])  # which count from the end

    def tie(self, first: Ids, second: Ids) -> None:
        """Joins the sets of elements that lie in the same places.

        What meets an element that is fixed stays, too.

        Args:
            first: Ids.
            second: As many.
        """
        apart = first != second
        pairs = np.unique(np.stack([first[apart], second[apart]], 1), axis=0)
        for one, other in pairs.tolist():
            if one >= 0 and other >= 0:
                self._parents[self.root(one)] = self.root(other)
            elif FIXED in (one, other):
                self.fix(np.array([one, other]))

    def fix(self, ids: Ids) -> None:
        """Lets channels stay, whatever they hold."""
        self.fixed |= {atom for atom in np.unique(ids).tolist() if atom >= 0}


def joined(first: Ids, second: Ids) -> Ids:
    """The ids of elements that come of two others each: whichever is a channel, or is fixed."""
    return np.maximum(first, second)


def per_slice(ids: Ids, axis: int) -> Ids | None:
    """The one id of each slice across an axis, `ANY` aside; `None` if some slice has several."""
    rows = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
    highest = rows.max(axis=1, initial=ANY)
    same = (rows == highest[:, None]) | (rows == ANY)
    return highest if same.all() else None


def differ(ids: Ids, axes: tuple[int, ...]) -> bool:
    """Whether there are several ids along some axes, `ANY` aside."""
    highest = ids.max(axis=axes, keepdims=True)
    return bool(((ids != highest) & (ids != ANY)).any())


def coordinates(places: Tensor, shape: tuple[int, ...]) -> list[Ids]:
    """Where elements of a parameter lie along each of its axes.

    numpy's `unravel_index` (2.4.6) errs for large arrays whose last axis has size 1.
    """
    return [each.numpy() for each in torch.unravel_index(places, shape)]


def follows(index: Ids, side: int) -> bool:
    """Whether an index is the same everywhere but along a side, and never twice there."""
    along = np.moveaxis(index, side, 0).reshape(index.shape[side], -1)
    first = along[:, 0]
    return bool((along == first[:, None]).all()) and len(np.unique(first)) == len(first)


def spread(ids: Ids, axis: int, shape: tuple[int, ...]) -> Ids:
    """The ids of channels for all elements of a tensor."""
    sizes = [1] * len(shape)
    sizes[axis] = len(ids)
    return np.broadcast_to(ids.reshape(sizes), shape)


def spreads(own: Ids, result: Ids) -> bool:
    """Whether a tensor's channel is repeated over several channels of a result."""
    shape = (1,) * (result.ndim - own.ndim) + own.shape
    axes = tuple(a for a, size in enumerate(shape) if size == 1 and result.shape[a] > 1)
    if not axes or (own < 0).all():
        return False
    lowest = np.where(result == ANY, result.max(initial=ANY), result).min(axis=axes)
    return bool((result.max(axis=axes) != lowest).any())
