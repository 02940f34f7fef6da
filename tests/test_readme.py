"""The README keeps its promises: its Python runs, its commands and options exist."""

import re
from pathlib import Path

import click
import pytest

from sparsify.cli.main import main

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code", _blocks("python"))
def test_python_runs(code, capsys):
    exec(code, {})
    printed = capsys.readouterr().out
    assert "prunable 90.00% sparse" in printed


def test_commands_and_options_exist():
    lines = [
        line.partition("#")[0].split()
        for block in _blocks("sh")
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
