"""The gates of `sparsify inspect`: what a model must have to pass."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from sparsify.cli.gates import Gate
from sparsify.errors import SparsifyError
from sparsify.exporters.accounts import Account


def doubt_of(account: Account) -> str | None:
    """Why nothing is known for sure of the zeros in a file, if that is so."""
    if not account.left_out:
        return None
    first, *others = account.left_out
    return f"{first}{f' ({len(others)} more are in doubt, too)' if others else ''}"


def sparsity_gates(
    account: Account, minimum: float | None, maximum: float | None
) -> Iterator[Gate]:
    """Whether the prunable sparsity lies within its bounds, as far as there are any.

    Args:
        account: Of the file.
        minimum: A bound from below.
        maximum: A bound from above.
    """
    table, doubt = account.table, doubt_of(account)
    for name, threshold, passes in (
        ("min_sparsity", minimum, table.at_least),
        ("max_sparsity", maximum, table.at_most),
    ):
        if threshold is not None:
            passed = doubt is None and passes(threshold)
            what = "the prunable sparsity"
            yield Gate(name, threshold, table.sparsity, passed, what, _share_shown, doubt)


def macs_gate(account: Account, threshold: float) -> Gate:
    """Whether no more than a share of the dense network's multiply-adds is left.

    Raises:
        SparsifyError: They are not known.
    """
    work = account.counted.of(account.table.layers)
    if work is None:
        raise SparsifyError(
            f"--max-macs: the multiply-adds of '{account.path}' are not known:"
            f" {account.counted.why_not}"
        )
    left = work.multiply_adds - work.by_zeros
    doubt = doubt_of(account)
    passed = doubt is None and left <= Fraction(str(threshold)) * work.multiply_adds
    what = "the share of multiply-adds"
    share = left / (work.multiply_adds or 1)
    return Gate("max_macs", threshold, share, passed, what, _share_shown, doubt)


def _share_shown(share: float) -> str:
    return f"{share:.4%}"
