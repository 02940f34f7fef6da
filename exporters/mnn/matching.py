"""Which operators of a converted graph hold which weight of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from sparsify.errors import SparsifyError
from sparsify.exporters.mnn.graph import DEPTHWISE, Operator, Weight

_ALIKE = 1 - 1e-3  # cosine of two rows, of which one may be scaled by a folded batch norm


def match_weights(
    weights: Mapping[str, Weight], operators: Sequence[Operator]
) -> dict[str, list[int]]:
    """The operators of each weight by number, more than one where the converter has split it.

    MNN keeps no names of weights, folds batch norms into them, which scales their rows, and splits
    what the graph slices and what has groups. Of a weight with several outputs of each channel it
    makes depthwise operators, which take turns at the rows.

    Args:
        weights: Of the network, by name.
        operators: Of the converted graph.

    Raises:
        SparsifyError: A weight is not in the graph.
    """
    free = {
        number: _matrix(each.weight)
        for number, each in enumerate(operators)
        if each.weight is not None
    }
    depthwise = {number for number, each in enumerate(operators) if each.type == DEPTHWISE}
    found = {}
    for name, weight in weights.items():
        rows = _matrix(weight)
        numbers = (
            _pieces(rows, free, axis=1)
            or _in_turns(rows, {n: free[n] for n in free if n in depthwise})
            or _pieces(rows, free, axis=0)
        )
        if not numbers:
            raise SparsifyError(
                f"weight '{name}' did not survive MNN's converter: export another format"
            )
        found[name] = numbers
        for number in numbers:
            del free[number]
    return found


def joined(operators: Sequence[Operator], shape: Sequence[int]) -> Weight:
    """A weight of the network out of those of its operators.

    Args:
        operators: In the order of `match_weights`.
        shape: Of the weight.

    Raises:
        ValueError: They do not fit.
    """
    pieces = [_matrix(each.weight) for each in operators if each.weight is not None]
    if sum(piece.size for piece in pieces) != prod(shape):
        raise ValueError(f"operators of {len(pieces)} weights have no shape {list(shape)}")
    if all(each.type == DEPTHWISE for each in operators):
        return np.stack(pieces, 1).reshape(shape)
    along_inputs = all(len(piece) == shape[0] for piece in pieces)
    return np.concatenate(pieces, int(along_inputs)).reshape(shape)


def _in_turns(weight: Weight, free: Mapping[int, Weight]) -> list[int]:
    """The operators that take turns at the rows of a weight; none if there are not."""
    for turns in range(2, len(weight) + 1):
        if len(weight) % turns == 0:
            parts = [weight[first::turns] for first in range(turns)]
            whole = {n: free[n] for n in free if free[n].shape == parts[0].shape}
            numbers = _pieces(np.concatenate(parts), whole, axis=0)
            if len(numbers) == turns:
                return numbers
    return []


def _pieces(weight: Weight, free: Mapping[int, Weight], axis: int) -> list[int]:
    """The operators that together are a weight `(outputs, inputs · kernel)`; none if there are not.

    Args:
        weight: What is looked for.
        free: The weights of operators, by number.
        axis: Along which it may have been split.
    """
    numbers: list[int] = []
    start = 0
    while start < weight.shape[axis]:
        rest = weight[:, start:] if axis else weight[start:]
        number = _piece({n: free[n] for n in free if n not in numbers}, rest, axis)
        if number is None:
            return []
        numbers.append(number)
        start += free[number].shape[axis]
    return numbers


def _piece(free: Mapping[int, Weight], rest: Weight, axis: int) -> int | None:
    """The operator that a weight begins with, the surest first: small weights may be alike."""
    fitting = [
        (number, piece, rest[:, : piece.shape[1]] if axis else rest[: len(piece)])
        for number, piece in free.items()
        if piece.shape[1 - axis] == rest.shape[1 - axis] and piece.shape[axis] <= rest.shape[axis]
    ]
    for is_same in (np.array_equal, _is_scaled, _is_scaled_in_part):
        for number, piece, part in fitting:
            if is_same(piece, part):
                return number
    return None


def _is_scaled(piece: Weight, part: Weight) -> bool:
    return np.array_equal(piece != 0, part != 0) and _is_scaled_in_part(piece, part)


def _is_scaled_in_part(piece: Weight, part: Weight) -> bool:
    """Whether each row is a multiple of the other, but for rows that are nothing in one of them."""
    lengths = np.linalg.norm(piece, axis=1) * np.linalg.norm(part, axis=1)
    products = np.abs((piece * part).sum(axis=1))
    return bool((products >= _ALIKE * lengths).all()) and bool(lengths.any() or not part.any())


def _matrix(weight: Weight) -> Weight:
    """A row for each output."""
    return weight.reshape(len(weight), -1)
