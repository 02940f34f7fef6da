"""The README keeps its promises: its Python runs, its commands and options exist."""

import re
from pathlib import Path

import click
import pytest

from sparsify.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


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
        for path in PAGES
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, heading = link.partition("#")
        if re.match(r"\w+:", path):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if heading and target.suffix == ".md":
            assert heading in _headings(target), link


def _headings(page):
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    titles = (
        re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        for title in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_has_every_page():
    linked = set(re.findall(r"\(([\w-]+\.md)", (ROOT / "docs" / "README.md").read_text("utf-8")))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= linked
