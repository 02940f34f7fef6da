"""Tables where there is little room."""

import pytest
from rich.console import Console
from rich.text import Text

from sparsify.cli import tables
from sparsify.cli.display import ratio_text
from sparsify.cli.tables import Column, fitted

NAMES = ["layer1.conv.weight", "encoder.layers.11.attention.self.query.weight"]


def printed(width, columns, monkeypatch, capsys):
    screen = Console(width=width, highlight=False, color_system=None)
    monkeypatch.setattr(tables, "out", screen)
    screen.print(fitted(columns))
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def columns():
    return [
        Column("Name", [Text(NAMES[0], "bold"), NAMES[1]], left=True, name=True),
        Column("Size", ["1,196,608", "16,384"]),
        Column("Work", ["39.32 M", "3.28 M"], rank=2),
        Column("Memory", ["1.2 MB", "800 kB"], rank=5),
    ]


def test_small_ratios_are_not_nothing():
    assert [ratio_text(each) for each in (12, 0.5, 0.0213)] == ["12.00", "0.50", "0.021"]


def test_the_least_goes_first_then_middles_of_names_then_more(columns, monkeypatch, capsys):
    """And no number is cut, as long as there is room for one."""
    for width, heads, names, told in (
        (80, ["Name", "Size", "Work", "Memory"], NAMES, []),
        (70, ["Name", "Size", "Work"], NAMES, ["No room for: Memory."]),
        (50, ["Name", "Size", "Work"], [NAMES[0], "encoder.layers.…f.query.weight"], ["Memory."]),
        (40, ["Name", "Size"], [NAMES[0], "encoder.layers…f.query.weight"], ["Work, Memory."]),
        (20, ["Name", "Size"], ["laye…ight", "enco…ight"], ["No room for: Work,", "Memory."]),
    ):
        lines = printed(width, columns, monkeypatch, capsys)
        for expected in reversed(told):
            assert lines.pop().endswith(expected)
        assert max(map(len, lines)) <= width
        assert lines[0].split() == heads
        for line, name, size in zip(lines[1:], names, ["1,196,608", "16,384"], strict=True):
            assert line.split()[:2] == [name, size]
