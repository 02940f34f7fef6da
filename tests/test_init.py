"""The names that `import sparsify` offers, which its stub alone lists."""

import os

import pytest

import sparsify


def test_every_name_is_what_it_says():
    assert {"AdaBreg", "SparsifyError", "load_model", "sparsity_table"} < set(dir(sparsify))
    for name in dir(sparsify):
        assert getattr(sparsify, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sparsify.nothing  # noqa: B018


def test_nothing_is_reported_to_anybody():
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
