"""Matrices as the kernels read them: chunks of columns, in each the rows sorted by nonzeros."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 4
"""Output rows that share a pattern in the kernel for blocks."""
GROUPS_OF_A_LINE = 2
"""Groups of eight frames in a line of 16 floats."""
_FARTHEST = 65535  # groups that 16 bits reach
# Rows of activations that a pass reads: about as many as the first-level cache holds, and more
# where a row of the matrix would have too few nonzeros in them.
_FEWEST_ROWS, _MOST_ROWS = 128, 800
_WANTED_NONZEROS = 20
_FEWEST_BLOCK_ROWS = 128


@dataclass(frozen=True)
class Chunk:
    """Columns of a matrix, packed.

    Attributes:
        origin: Group of a panel that offsets count from.
        block: Rows that share a pattern: 1 or `BLOCK`.
        runs: `(n, 2)`: nonzeros of a row or block, and how many such follow each other.
        rows: Which output rows.
        offsets: Groups from the origin.
        values: One for each offset, or `BLOCK`.
    """

    origin: int
    block: int
    runs: NDArray[np.int32]
    rows: NDArray[np.uint16]
    offsets: NDArray[np.uint16]
    values: NDArray[np.float32]


def pack(
    weight: NDArray[np.float32], lines: NDArray[np.int64], shift: NDArray[np.int64], block: int
) -> list[Chunk]:
    """Packs a matrix.

    Args:
        weight: `(outputs, columns)`.
        lines: The line of a panel at which the row of each column begins.
        shift: How many frames later each column is read; each of them lies a group further.
        block: Rows that share a pattern: 1 or `BLOCK`.

    Returns:
        At least one chunk, even of a matrix of zeros: each output row is in the first and the last.
    """
    offsets = GROUPS_OF_A_LINE * lines + shift
    used = np.flatnonzero(weight.any(axis=0))
    used = used[np.argsort(offsets[used], kind="stable")]
    parts = list(_parts(weight, lines, offsets, used, block)) or [used]
    return [
        _packed(
            weight[:, columns],
            offsets[columns],
            block,
            keep_empty=number in (0, len(parts) - 1),
        )
        for number, columns in enumerate(parts)
    ]


def _parts(
    weight: NDArray[np.float32],
    lines: NDArray[np.int64],
    offsets: NDArray[np.int64],
    used: NDArray[np.int64],
    block: int,
) -> Iterator[NDArray[np.int64]]:
    """Columns that one pass reads, sorted by their offsets."""
    rows = lines[used]
    pattern = _together(weight, block).any(axis=2)
    fewest = _FEWEST_ROWS if block == 1 else _FEWEST_BLOCK_ROWS
    most = _rows_of_a_pass(float(pattern.mean()) if pattern.size else 1.0, rows, fewest)
    begin = 0
    while begin < len(used):
        near = offsets[used[begin:]] - offsets[used[begin]] <= _FARTHEST
        count = np.cumsum(np.diff(rows[begin:], prepend=-1) != 0)
        end = begin + int(np.count_nonzero(near & (count <= most)))
        yield used[begin:end]
        begin = end


def _rows_of_a_pass(density: float, rows: NDArray[np.int64], fewest: int) -> int:
    """Evenly many in all passes."""
    count = len(np.unique(rows))
    taps = len(rows) / max(count, 1)  # columns that read the same row
    wanted = _WANTED_NONZEROS / max(density * taps, 1e-9)
    most = int(min(max(wanted, fewest), _MOST_ROWS))
    return -(-count // -(-count // most)) if count else 1


def _together(weight: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Rows that share a pattern, together: `(sets, columns, block)`, filled up with zeros."""
    count = -(-len(weight) // block)
    padded = np.zeros((count * block, weight.shape[1]), np.float32)
    padded[: len(weight)] = weight
    return padded.reshape(count, block, -1).transpose(0, 2, 1)


def _packed(
    weight: NDArray[np.float32], offsets: NDArray[np.int64], block: int, *, keep_empty: bool
) -> Chunk:
    outputs = len(weight)
    grid = _together(weight, block)
    pattern = np.asarray(grid.any(axis=2))
    counts = pattern.sum(axis=1)
    order = np.argsort(-counts, kind="stable")
    if not keep_empty:
        order = order[counts[order] > 0]
    counts = counts[order]
    starts = np.concatenate([[0], np.cumsum(counts)])
    line, column = np.nonzero(pattern[order])
    first = np.searchsorted(line, np.arange(len(order)))
    place = starts[line] + np.arange(len(line)) - first[line]
    origin = int(offsets.min()) if len(offsets) else 0
    packed_offsets = np.zeros(starts[-1], np.uint16)
    packed_offsets[place] = offsets[column] - origin
    values = np.zeros((starts[-1], block), np.float32)
    values[place] = grid[order[line], column]
    members = order[:, None] * block + np.arange(block)
    # A block that is not full repeats its first row, which the kernel stores last.
    members = np.where(members < outputs, members, members[:, :1])
    changes = np.flatnonzero(np.diff(counts, prepend=-1))
    lengths = np.diff(np.append(changes, len(counts)))
    runs = np.stack([counts[changes], lengths], axis=1)
    return Chunk(
        origin,
        block,
        runs.astype(np.int32),
        members.reshape(-1).astype(np.uint16),
        packed_offsets,
        values.reshape(-1),
    )
