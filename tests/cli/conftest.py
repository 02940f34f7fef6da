"""What the tests of several commands look at."""

import pytest


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
