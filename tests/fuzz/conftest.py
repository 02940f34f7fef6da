"""How many damaged inputs each reader gets."""

import pytest


@pytest.fixture
def fuzz_count(request: pytest.FixtureRequest) -> int:
    """The number given with `--fuzz`."""
    return request.config.getoption("--fuzz")
