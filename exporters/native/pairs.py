"""Pairs of rowwise steps that the engine has in one, which saves a walk through memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from sparsify.exporters.native.steps import Operand, Rowwise

_PAIRS = {
    ("multiply", "sum"): "sum_product",
    ("multiply", "add"): "multiply_add",
    ("subtract", "exp"): "exp_difference",
    ("subtract", "multiply"): "squared_difference",
}
"""Steps that the engine has in one: the first, and the one that takes its result."""


def combined(members: list[Rowwise], kept: set[int]) -> list[Rowwise]:
    """The steps of a group with pairs put into one, which saves a walk through memory.

    Args:
        members: The steps.
        kept: The numbers of the buffers that are needed outside.
    """
    left = list(members)
    uses = Counter(
        each.rows.tobytes() for step in left for each in step.arguments if isinstance(each, Operand)
    )
    for first in members:
        if first.target.number in kept or first not in left:
            continue
        key = first.rows.tobytes()
        for position, second in enumerate(left):
            pair = _pair(first, second, key, uses)
            if pair is not None:
                left[position] = pair
                left = [step for step in left if step is not first]
                break
    return left


def _pair(first: Rowwise, second: Rowwise, key: bytes, uses: Counter[bytes]) -> Rowwise | None:
    code = _PAIRS.get((first.code, second.code))
    taken = [isinstance(each, Operand) and each.rows.tobytes() == key for each in second.arguments]
    squares = code == "squared_difference"
    if code is None or uses[key] != sum(taken) or sum(taken) != 1 + squares:
        return None
    others = [each for each, is_taken in zip(second.arguments, taken, strict=True) if not is_taken]
    return replace(second, code=code, arguments=(*first.arguments, *others))
