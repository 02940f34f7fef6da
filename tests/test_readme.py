"""The README keeps its promises: its Python runs, its commands and options exist."""

import re
from pathlib import Path

import click
import pytest

from sparsify.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def _blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("code", _blocks("python"))
def test_python_runs(code, capsys):
    exec(code, {})
    printed = capsys.readouterr().out
    assert "prunable 90.00% sparse" in printed


@pytest.mark.parametrize(
    "code",
    [c for path in (ROOT / "docs").glob("*.md") for c in _blocks("python", path.read_text())],
)
def test_python_of_the_docs_runs(code):
    exec(code, {})


def test_commands_and_options_exist():
    docs = [path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")]
    lines = [
        line.partition("#")[0].split()
        for block in _blocks("sh", "\n".join([README, *docs]))
        for line in block.splitlines()
        if line.startswith("sparsify ")
    ]
    assert len(lines) >= 4
    context = click.Context(main)
    for _, name, *words in lines:
        command = main.get_command(context, name)
        assert command is not None, name
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
