"""Tables that fit the terminal: what matters least goes first, and no number is ever cut."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.measure import Measurement
from rich.table import Table

from sparsify.cli.display import out


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: Above it.
        cells: From the top.
        rank: Where there is no room for all columns, the highest ranks are left out first; 0 stays.
        left: Whether its cells begin at its left side, as words do.
    """

    heading: str
    cells: Sequence[RenderableType]
    rank: int = 0
    left: bool = False


def fitted(columns: Sequence[Column], sections: Collection[int] = ()) -> Table:
    """A table of the columns that there is room for; words that are too long go on below.

    Args:
        columns: All of equally many cells.
        sections: Rows before which there is a gap.
    """
    kept = list(columns)
    while _width(view := _table(kept, sections)) > out.width:
        last = max(kept, key=lambda column: column.rank)
        if not last.rank:
            break
        kept.remove(last)
    return view


def _width(view: Table) -> int:
    """Columns of the terminal that a table takes where nothing is cut."""
    return Measurement.get(out, out.options.update(max_width=10_000), view).maximum


def _table(columns: Sequence[Column], sections: Collection[int]) -> Table:
    view = Table(box=None, pad_edge=False)
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
