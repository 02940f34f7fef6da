"""A tensor as symbols: where it is not zero, and then what is there, part by part.

Rows are output channels. A row's share of nonzeros is one of a few densities; the elements of rows
of the same density are coded together. Nonzeros are levels, where a few whole numbers and some
scales give the very same values, or the parts of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sparsify.arrays import Array
from sparsify.artifact.ans import TOTAL, Decoder, Encoder, short_float
from sparsify.artifact.levels import GRIDS
from sparsify.artifact.numbers import cost, read_numbers, write_numbers
from sparsify.errors import SparsifyError

FIELDS = ((31, 1), (23, 8), (16, 7), (13, 3), (0, 13))
"""Position and bits of what float32 consists of: sign, exponent, and the mantissa of bfloat16, what
float16 adds to that, and the rest."""
FORMS = (0, *GRIDS)
"""How nonzeros are stored: as they are, or as levels of so many bits."""
_MANTISSA_BITS = 23
_DENSITY_BITS = 9
_MANTISSA = 3
_HALF = 168  # the code of a density of one half
_STEPS = (4, 8)  # of densities that differ from row to row, which then take fewer bits to tell

Bits = NDArray[np.uint32]
Mask = NDArray[np.bool_]


def write_tensor(encoder: Encoder, tensor: Array) -> None:
    """Adds a contiguous tensor, whose type and shape the reader must know."""
    if not tensor.size:
        return
    if tensor.dtype != np.float32:
        for plane in _bytes(tensor).T:
            write_numbers(encoder, plane, 8)
        return
    bits = _rows(tensor).view(np.uint32)
    mask = bits != 0
    form, scales, levels = _levels(tensor)
    encoder.uniform([FORMS.index(form)], len(FORMS))
    _write_mask(encoder, mask)
    if form:
        _write_floats(encoder, scales.view(np.uint32))
        write_numbers(encoder, levels, form)
    else:
        _write_floats(encoder, bits[mask])


def read_tensor(decoder: Decoder, shape: Sequence[int], dtype: DTypeLike) -> Array:
    """What `write_tensor` added.

    Raises:
        SparsifyError: It is damaged.
    """
    tensor: Array = np.zeros(tuple(shape), dtype)
    if not tensor.size:
        return tensor
    if tensor.dtype != np.float32:
        for plane in _bytes(tensor).T:
            plane[:] = read_numbers(decoder, len(plane), 8)
        return tensor
    rows = _rows(tensor)
    form = FORMS[decoder.uniform(1, len(FORMS))[0]]
    mask = _read_mask(decoder, rows.shape)
    if form:
        groups = GRIDS[form].groups(mask)
        scales = _read_floats(decoder, groups.count).view(np.float32)
        levels = 2 * read_numbers(decoder, int(mask.sum()), form) - GRIDS[form].most
        rows[mask] = levels.astype(np.float32) * groups.spread(scales)
    else:
        rows[mask] = _read_floats(decoder, int(mask.sum())).view(np.float32)
    return tensor


def entropy_bits(tensor: Array) -> float:
    """The entropy of a tensor whose elements are drawn one by one, by its own shares.

    That of its mask, and that of the signs and exponents of its nonzeros, or of their levels.
    Mantissas, of which each is as likely as another, count with the digits that are in use.
    """
    if not tensor.size:
        return 0.0
    tensor = np.ascontiguousarray(tensor)
    if tensor.dtype != np.float32:
        return float(sum(_entropy(plane) for plane in _bytes(tensor).T))
    bits = _rows(tensor).view(np.uint32)
    mask = bits != 0
    form, scales, levels = _levels(tensor)
    if form:
        values = _entropy(levels) + _entropy_of_floats(scales)
    else:
        values = _entropy_of_floats(bits[mask])
    return _entropy(mask) + values


def _levels(tensor: Array) -> tuple[int, NDArray[np.float32], NDArray[np.int32]]:
    """The form of a tensor, and its scales and levels if it is made of them to the last bit.

    Levels are odd, and numbered from the smallest.
    """
    if tensor.ndim > 1 and np.isfinite(tensor).all() and not _has_negative_zeros(tensor):
        for form, grid in GRIDS.items():
            found = grid.split(tensor)
            if found:
                scales, levels = found
                return form, scales, (levels.astype(np.int32) + grid.most) // 2
    return 0, np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int32)


def _has_negative_zeros(tensor: Array) -> bool:
    """Whether it has −0.0, whose bits only floats keep."""
    return bool(((tensor == 0) & np.signbit(tensor)).any())


def _rows(tensor: Array) -> Array:
    """A view `(rows, columns)`; one of fewer than two dimensions is a single row."""
    return tensor.reshape(len(tensor) if tensor.ndim > 1 else 1, -1)


def _bytes(tensor: Array) -> NDArray[np.uint8]:
    """A view `(elements, bytes of an element)`, in little-endian order."""
    return tensor.reshape(-1, 1).view(np.uint8)


def _fields(bits: Bits) -> Iterator[tuple[NDArray[np.integer], int]]:
    for shift, width in FIELDS:
        yield bits >> shift & ((1 << width) - 1), width


def _write_floats(encoder: Encoder, bits: Bits) -> None:
    for field, width in _fields(bits):
        write_numbers(encoder, field, width)


def _read_floats(decoder: Decoder, count: int) -> Bits:
    bits = np.zeros(count, dtype=np.uint32)
    for shift, width in FIELDS:
        bits |= read_numbers(decoder, count, width).view(np.uint32) << shift
    return bits


def _write_mask(encoder: Encoder, mask: Mask) -> None:
    densities = min(_choices(mask), key=lambda each: _mask_cost(mask, each))
    write_numbers(encoder, densities, _DENSITY_BITS)
    for rows, weight in _by_density(densities):
        if 0 < weight < TOTAL:
            encoder.weighted(mask[rows].ravel(), (TOTAL - weight, weight))


def _read_mask(decoder: Decoder, shape: tuple[int, ...]) -> Mask:
    densities = read_numbers(decoder, shape[0], _DENSITY_BITS)
    if densities.max() >= len(_weights()):
        raise SparsifyError(f"its rows have an unknown density {densities.max()}")
    mask = np.zeros(shape, dtype=np.bool_)
    for rows, weight in _by_density(densities):
        if 0 < weight < TOTAL:
            symbols = decoder.weighted(len(rows) * shape[1], (TOTAL - weight, weight))
            mask[rows] = symbols.reshape(len(rows), shape[1])
        else:
            mask[rows] = weight > 0
    return mask


def _by_density(densities: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.int64], int]]:
    """The rows of each density, and the weight of a nonzero among them."""
    order = np.argsort(densities, kind="stable")
    found, starts = np.unique(densities[order], return_index=True)
    for density, rows in zip(found, np.split(order, starts[1:]), strict=True):
        yield rows, int(_weights()[density])


@cache
def _weights() -> NDArray[np.int64]:
    """The weight of a nonzero, by the code of the density: none, few to half, more to all."""
    few = [short_float(code, _MANTISSA) for code in range(_HALF + 1)]
    return np.array(few + [TOTAL - weight for weight in reversed(few[:-1])])


def _choices(mask: Mask) -> Iterator[NDArray[np.int64]]:
    """Codes of densities for the rows of a mask: one for all, or one for each."""
    nonzeros, width = mask.sum(axis=1), mask.shape[1]
    yield np.full(len(mask), _nearest(nonzeros.sum(keepdims=True), mask.size, 1)[0])
    if len(mask) > 1:
        yield from (_nearest(nonzeros, width, step) for step in _STEPS)


def _nearest(nonzeros: NDArray[np.int64], elements: int, step: int) -> NDArray[np.int64]:
    """The code of each density, a multiple of a step where that is possible."""
    weights = _weights()
    borders = (weights[1:] + weights[:-1]) / 2
    codes = np.searchsorted(borders, nonzeros / elements * TOTAL)
    codes = np.clip((codes + step // 2) // step * step, 1, len(weights) - 2)
    return np.where(nonzeros == 0, 0, np.where(nonzeros == elements, len(weights) - 1, codes))


def _mask_cost(mask: Mask, densities: NDArray[np.int64]) -> float:
    nonzeros = mask.sum(axis=1)
    share = _weights()[densities] / TOTAL
    with np.errstate(divide="ignore", invalid="ignore"):
        ones = np.where(nonzeros == 0, 0, nonzeros * np.log2(share))
        zeros = mask.shape[1] - nonzeros
        others = np.where(zeros == 0, 0, zeros * np.log2(1 - share))
    return cost(densities, _DENSITY_BITS) - float((ones + others).sum())


def _entropy(symbols: NDArray[np.generic]) -> float:
    """Bits of symbols that are drawn one by one, by their own shares."""
    if not symbols.size:
        return 0.0
    numbers = symbols.ravel().astype(np.int64)
    counts = np.bincount(numbers - numbers.min())
    counts = counts[counts > 0]
    return float(counts @ np.log2(symbols.size / counts))


def _entropy_of_floats(values: NDArray[np.generic]) -> float:
    bits = values.view(np.uint32)
    (sign, _), (exponent, _), *_ = _fields(bits)
    mantissas = int(np.bitwise_or.reduce(bits)) & ((1 << _MANTISSA_BITS) - 1)
    unused = (mantissas & -mantissas).bit_length() - 1 if mantissas else _MANTISSA_BITS
    return _entropy(sign) + _entropy(exponent) + (_MANTISSA_BITS - unused) * values.size
