"""What the tests of several commands look at."""

import re
from collections import Counter
from pathlib import Path

import click
import pytest

from sparsify import documents
from sparsify.methods import registry
from sparsify.models.registry import Architecture


@pytest.fixture(scope="session")
def refused():
    """Checks that a call ended as bad input does: code 2 and one sentence, with these words."""

    def refused(result, *words):
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.stderr
        message = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(message) == 1
        for word in words:
            assert str(word) in message[0]

    return refused


@pytest.fixture(scope="session")
def documented():
    """The keys that docs/json.md promises of each command: those always there, and all."""
    page = Path(__file__).parents[2] / "docs" / "json.md"
    keys = {}
    for section in page.read_text("utf-8").split("\n## ")[1:]:
        command, *lines = section.splitlines()
        rows = [line.split(" | ") for line in lines if line.startswith("| `")]
        always, every = set(), set()
        for named, condition, *_ in rows:
            names = re.sub(r"[|`]", "", named).split()
            every |= {*names}
            always |= set() if condition.strip() else {*names}
        keys[command] = always, every
    return keys


@pytest.fixture(autouse=True)
def json_is_as_documented(documented, monkeypatch):
    """Whatever a test lets a command print as JSON has the keys that are promised."""
    to_json = documents.to_json

    def checked(result, **how):
        context = click.get_current_context(silent=True)
        shown = context is not None and how.get("indent") == 2  # as `emit_json` has it
        if shown and context.command.name != "probe":  # a command that tests add
            command = context.command_path.split(maxsplit=1)[1]
            always, every = documented[command + " --dry-run" * bool(context.params.get("dry_run"))]
            assert always <= result.keys() <= every
        return to_json(result, **how)

    monkeypatch.setattr(documents, "to_json", checked)


@pytest.fixture
def made(monkeypatch):
    """How often this process has built a network and validated the options of a method, by name."""
    counts = Counter()

    def counted(function, name_of):
        def call(*arguments):
            counts[name_of(*arguments)] += 1
            return function(*arguments)

        return call

    build = counted(Architecture.build, lambda architecture: architecture.name)
    monkeypatch.setattr(Architecture, "build", build)
    validate = counted(registry.validate, lambda section, content, where: where)
    monkeypatch.setattr(registry, "validate", validate)
    return counts
