"""Weights that a state dict holds in parts: pruned by a mask, or a direction with its length."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sparsify.arrays import Array, is_floating

# Suffixes of the parts, and what they make: torch.nn.utils.prune, torch.nn.utils.weight_norm, and
# torch.nn.utils.parametrizations.weight_norm, which puts the name of the weight in the middle.
_MASKED = ("_orig", "_mask")
_NORMED = ("_g", "_v")
_PARAMETRISED = ("original0", "original1")
_PARAMETRISATIONS = "parametrizations."


def whole(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """A state dict with every weight in one piece, under its own name.

    `X_orig` and `X_mask` become their product X. `X_g` and `X_v`, or `parametrizations.X.original0`
    and `original1`, become `g · v / ‖v‖`, the norm being over all axes along which g has one value.
    """
    made: dict[str, tuple[str, Array]] = {}
    gone = set()
    for first in tensors:
        stem, second, product = _parts(first)
        other = tensors.get(second)
        if other is None or stem in tensors:
            continue
        weight = product(tensors[first], other)
        if weight is not None:
            made[first] = stem, weight
            gone.add(second)
    # Each in the place of its first part, so that the order of layers stays.
    return dict(
        made.get(name, (name, tensor)) for name, tensor in tensors.items() if name not in gone
    )


def _parts(first: str) -> tuple[str, str, Callable[[Array, Array], Array | None]]:
    """The weight that a first part may belong to, the name of the second, and how they are joined.

    What is no first part has no second.
    """
    for (one, other), product in ((_MASKED, _masked), (_NORMED, _scaled)):
        if first.endswith(one):
            stem = first.removesuffix(one)
            return stem, stem + other, product
    one, other = _PARAMETRISED
    if first.endswith(f".{one}") and _PARAMETRISATIONS in first:
        path = first.removesuffix(one)
        return path.removesuffix(".").replace(_PARAMETRISATIONS, ""), path + other, _scaled
    return first, "", _masked


def _masked(weight: Array, mask: Array) -> Array | None:
    if weight.shape != mask.shape:
        return None
    # As in PyTorch integers do not make floats wider.
    if is_floating(weight) and not is_floating(mask):
        mask = mask.astype(weight.dtype)
    elif is_floating(mask) and not is_floating(weight):
        weight = weight.astype(mask.dtype)
    with np.errstate(all="ignore"):  # whatever a file holds
        return np.asarray(weight * mask)


def _scaled(length: Array, direction: Array) -> Array | None:
    axes = tuple(axis for axis, size in enumerate(length.shape) if size == 1)
    expected = tuple(1 if axis in axes else size for axis, size in enumerate(direction.shape))
    if length.ndim < 2 or not axes or length.shape != expected:
        return None
    with np.errstate(all="ignore"):
        norm = np.sqrt(np.square(direction.astype(np.float32)).sum(axes, keepdims=True))
        scaled: Array = (length * direction / norm).astype(direction.dtype)
    return scaled
