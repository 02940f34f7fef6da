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


# A block that begins with the name of a file belongs to steps, which have tests of their own.
@pytest.mark.parametrize(
    "code",
    [
        code
        for path in (ROOT / "docs").glob("*.md")
        for code in _blocks("python", path.read_text("utf-8"))
        if not re.match(r"# \S+\.py\n", code)
    ],
)
def test_python_of_the_docs_runs(code):
    exec(code, {})


def test_commands_and_options_exist():
    lines = [
        line.partition("#")[0].split()
        for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for block in _blocks("sh", path.read_text("utf-8"))
        for line in block.splitlines()
        if line.startswith("sparsify ")
    ]
    assert len(lines) >= 4
    context = click.Context(main)
    for _, name, *words in lines:
        command = main.get_command(context, name)
        if isinstance(command, click.Group):
            command = command.commands[words[0]]
        assert command is not None, name
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
