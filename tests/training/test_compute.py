"""Device, precision and compilation."""

import logging

import pytest
import torch
from torch import nn

from sparsify import SparsifyError
from sparsify.training.compute import choose_compute, compiled


def test_precision_is_as_asked_and_denormals_are_flushed():
    exact = choose_compute("cpu", "fp32")
    assert (exact.device.type, exact.precision) == ("cpu", "fp32")
    assert torch.tensor([1e-40]) * 1.0 == 0
    linear, x = nn.Linear(4, 4), torch.ones(2, 4)
    with exact.autocast():
        assert linear(x).dtype == torch.float32
    with choose_compute("cpu", "bf16").autocast():
        assert linear(x).dtype == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_is_named():
    with pytest.raises(SparsifyError, match="--device cpu"):
        choose_compute("cuda", "auto")


def test_without_a_compiler_training_goes_on_and_says_so(monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    network = nn.Linear(2, 2)
    with caplog.at_level(logging.WARNING):
        assert compiled(network, choose_compute("cpu", "fp32")) is network
    assert "no-such-compiler" in caplog.text
