"""The table of `sparsify inspect`: where a model is sparse."""

from __future__ import annotations

from collections.abc import Sequence

from rich.bar import Bar
from rich.text import Text

from sparsify.cli.display import human_bytes, out, say, styled
from sparsify.cli.tables import Column, fitted
from sparsify.exporters.accounts import Account, Counted
from sparsify.sparsity.table import (
    LayerSparsity,
    SparsityTable,
    dense_in_words,
    left_dense,
    no_weight_left,
)
from sparsify.sparsity.work import NO_WORK, SPEECH_SECONDS

_PRUNABLE = "Prunable"


def show_table(account: Account, layers: Sequence[LayerSparsity], show_all: bool) -> None:
    """Prints a row for every layer, totals, the size of the file and what the zeros save."""
    table, counted = account.table, account.counted
    shown = [layer for layer in layers if layer.prunable or show_all]
    rows: list[tuple[str, str, str, Sequence[LayerSparsity]]] = [
        (layer.name, layer.type, "×".join(str(size) for size in layer.shape), [layer])
        for layer in shown
    ]
    others = [layer for layer in layers if not layer.prunable]
    if others and not show_all:
        rows.append((f"{len(others)} others", "not prunable", "", others))
    totals = [(_PRUNABLE, "", "", table.prunable), ("Whole model", "", "", table.layers)]
    lines = [*rows, *totals]
    styles = [_style(name, each) for name, _, _, each in lines]
    view = fitted(
        [
            Column("Parameter", _styled([each[0] for each in lines], styles), left=True, name=True),
            Column("Type", [type_ for _, type_, *_ in lines], left=True, rank=3),
            Column("Shape", [shape for _, _, shape, _ in lines], rank=5),
            *_numbers([each for *_, each in lines], counted, styles),
        ],
        sections=[len(rows)],
    )
    out.print(view)
    if account.collapsed:
        say(f"\nThe model has collapsed: {account.collapsed}.", style="bold red")
    if table.emptied:
        text = no_weight_left(table.emptied)
        say(f"\n{text[0].upper()}{text[1:]}.", style="bold red")
    if account.ignore is not None and (dense := left_dense(table, account.ignore)):
        text = dense_in_words(dense)
        say(f"\n{text[0].upper()}{text[1:]}.")
    integers = ", int8" if account.quantised else ""
    samples = ", takes samples" if account.takes_samples else ""
    size, zipped = human_bytes(account.bytes), human_bytes(account.zipped_bytes)
    say(
        f"\n{account.path}: {account.format.name}{integers}, {account.layout} layout{samples},"
        f" {size}, {zipped} zipped\n{_zeros(table, counted)}"
        f"{_nearness(account)}{_left_out(account.left_out)}"
    )


def _style(name: str, layers: Sequence[LayerSparsity]) -> str:
    """Red for a layer that no weight is left of, bold for the result."""
    if layers and all(layer.prunable and not layer.nonzero for layer in layers):
        return "bold red"
    return "bold" if name == _PRUNABLE else ""


def _styled(texts: Sequence[str], styles: Sequence[str]) -> list[Text]:
    return [styled(text, style) for text, style in zip(texts, styles, strict=True)]


def _left_out(left_out: Sequence[str], most: int = 4) -> str:
    """What was not counted, or is no number."""
    if not left_out:
        return ""
    shown = left_out[:most]
    more = len(left_out) - len(shown)
    rest = f"; and so on, {more} more" if more else ""
    return f"\nIn doubt: {'; '.join(shown)}{rest}. No gate passes on this file."


def _numbers(
    groups: Sequence[Sequence[LayerSparsity]], counted: Counted, styles: Sequence[str]
) -> list[Column]:
    """The columns of numbers for groups of layers."""
    sums = [SparsityTable(tuple(layers)) for layers in groups]
    columns = [
        Column("Size", [f"{each.parameters:,}" for each in sums], rank=1),
        Column("Nonzero", [f"{each.nonzero:,}" for each in sums], rank=4),
        Column("Sparsity", _styled([f"{each.global_sparsity:.2%}" for each in sums], styles)),
        Column(
            "",
            [Bar(size=1, begin=0, end=each.global_sparsity, width=16) for each in sums],
            rank=7,
            left=True,
        ),
    ]
    total = counted.of(layer for layers in groups for layer in layers)
    if total is None:
        return columns
    work = [counted.of(layers) or NO_WORK for layers in groups]
    whole = work[-1].multiply_adds or 1
    counts = [f"{each.multiply_adds / 1e6:,.2f} M" if each.multiply_adds else "" for each in work]
    shares = [f"{each.multiply_adds / whole:.1%}" if each.multiply_adds else "" for each in work]
    columns[-1:-1] = [
        Column("Multiply-adds", counts, rank=2),
        Column("of all", shares, rank=6),
    ]
    return columns


def _nearness(account: Account) -> str:
    """How near to its entropy a file is."""
    entropy = account.entropy_bytes
    if not entropy or entropy >= account.zipped_bytes:
        return ""  # where values repeat in a pattern, their shares do not tell it
    times = account.bytes / entropy
    apart = f"{abs(times - 1):.1%} {'larger' if times >= 1 else 'smaller'}"
    if times > 2:
        apart = f"{times:.1f} times as large"
    return (
        f"\nThese values could be stored in {human_bytes(entropy)} (their entropy); the file is"
        f" {apart}."
    )


def _zeros(table: SparsityTable, counted: Counted) -> str:
    """How much of the weights, and of the work, the zeros are."""
    work = counted.of(table.layers)
    if work is None:
        return f"Multiply-adds are not known: {counted.why_not}"
    return (
        f"Zero are {table.sparsity:.2%} of the prunable weights, which take {work.sparsity:.2%} of"
        f" the {work.multiply_adds / 1e6:,.1f} million multiply-adds for {SPEECH_SECONDS} s of"
        f" speech ({counted.frames} frames)."
    )
