"""Fixtures and settings shared by all tests: one thread, fixed seeds, data named by variables."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("sparsify", derandomize=True, deadline=None)
hypothesis.settings.load_profile("sparsify")


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    logging.getLogger("sparsify").setLevel(logging.NOTSET)  # a command may have set it


@pytest.fixture(scope="session")
def speech_mini() -> Path:
    """The evaluation set speech-mini: train/, test/, test_noisy/ and trials.txt."""
    return _folder("SPARSIFY_SPEECH_MINI", "the evaluation set speech-mini")


@pytest.fixture(scope="session")
def golden() -> Path:
    """Outputs of reference implementations."""
    return _folder("SPARSIFY_GOLDEN", "the golden files")


def _folder(variable: str, content: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set to a folder with {content}")
    folder = Path(value)
    assert folder.is_dir(), f"{variable} names no folder: {folder}"
    return folder
