"""Tables that fit the terminal: what matters least goes first, and no number is ever cut."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from rich.console import RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sparsify.cli.display import out, styled
from sparsify.texts import shortened_apart

_SECONDARY = 2  # columns of a higher rank go before names are shortened
_READABLE, _LEAST = 24, 9  # letters of a name: for the sake of a column, and of the table


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Above it.
        cells: From the top.
        rank: Where there is no room for all columns, the highest ranks are left out first; 0 stays.
        left: Whether its cells begin at its left side, as words do.
        name: Whether its cells are names, which lose their middle where there is no room.
    """

    heading: str
    cells: Sequence[RenderableType]
    rank: int = 0
    left: bool = False
    name: bool = False


def fitted(columns: Sequence[Column], sections: Collection[int] = ()) -> Table:
    """A table of the columns that there is room for.

    Columns that matter little are left out, then names lose their middle, then more columns are
    left out, which is told below. Words that are still too long go on in another line.

    Args:
        columns: All of equally many cells.
        sections: Rows before which there is a gap.
    """
    kept = _without(columns, _SECONDARY)
    kept = _shortened(kept, _READABLE)
    kept = _without(kept, 0)
    view = _table(_shortened(kept, _LEAST), sections)
    shown = {each.heading for each in kept}
    left_out = [each.heading for each in columns if each.heading and each.heading not in shown]
    view.caption = f"No room for: {', '.join(left_out)}." if left_out else None
    return view


def _without(columns: Sequence[Column], rank: int) -> list[Column]:
    """The columns without those above a rank, the highest first, as far as there is no room."""
    kept = list(columns)
    while _excess(kept) and (last := max(kept, key=lambda column: column.rank)).rank > rank:
        kept.remove(last)
    return kept


def _shortened(columns: Sequence[Column], least: int) -> list[Column]:
    """The columns with their names as short as there is need for, unless that does not suffice."""
    if not (excess := _excess(columns)):
        return list(columns)
    names = [column for column in columns if column.name]
    longest = max((len(str(cell)) for column in names for cell in column.cells), default=0)
    letters = max(longest - excess, least)
    short = [_cut(column, letters) if column.name else column for column in columns]
    return list(columns) if least > _LEAST and _excess(short) else short


def _cut(column: Column, letters: int) -> Column:
    short = shortened_apart([str(cell) for cell in column.cells], letters)
    cells = [
        styled(text, str(cell.style) if isinstance(cell, Text) else "")
        for text, cell in zip(short, column.cells, strict=True)
    ]
    return replace(column, cells=cells)


def _excess(columns: Sequence[Column]) -> int:
    """How many columns of the terminal a table takes more than there are."""
    return max(0, _width(_table(columns, ())) - out.width)


def _width(view: Table) -> int:
    """Columns of the terminal that a table takes where nothing is cut."""
    return Measurement.get(out, out.options.update(max_width=10_000), view).maximum


def _table(columns: Sequence[Column], sections: Collection[int]) -> Table:
    view = Table(box=None, pad_edge=False, caption_justify="left")
    for column in columns:
        view.add_column(
            column.heading,
            justify="left" if column.left else "right",
            no_wrap=not column.left,
            overflow="fold",
        )
    for index, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        if index in sections:
            view.add_section()
        view.add_row(*cells)
    return view
