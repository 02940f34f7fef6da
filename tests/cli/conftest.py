"""What the tests of several commands look at."""

from collections import Counter

import pytest

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
