"""What the engine cannot do is refused in one sentence; what it seems to do it really does."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparsify.errors import SparsifyError
from sparsify.exporters.native.lowering import lower
from sparsify.exporters.native.program import write_program
from sparsify.exporters.native.table import UnsupportedError
from sparsify.exporters.native.tracing import trace

from .running import Building, T
from .test_networks import Of


def _swapped(x):
    return x.transpose(1, 2)


def _inner(function, **modules):
    """A network whose module `inner` does something."""
    return Of(lambda self, x: self.inner(x), inner=Of(function, **modules))


def _segments(x):
    return F.avg_pool1d(_swapped(x), 20, ceil_mode=True)


def _joined(x):
    means = _segments(x)
    return means.unsqueeze(-1).expand(-1, -1, -1, 20).reshape(1, 8, -1)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(8))

    def forward(self, x):
        self.calls += 1
        return x.mean(1) + self.calls


# Of each network, the operator and the layer that the error names.
REFUSED = {
    "lstm": (
        lambda: _inner(lambda s, x: s.a(x)[0].mean(1), a=nn.LSTM(8, 8, batch_first=True)),
        "LSTM",
        "inner.a",
    ),
    "attention to earlier frames": (
        lambda: _inner(
            lambda s, x: F.scaled_dot_product_attention(x, x, x, is_causal=True).mean(1)
        ),
        "aten.scaled_dot_product_attention",
        "inner",
    ),
    "shares of attention": (
        lambda: _inner(
            lambda s, x: s.a(x, x, x)[1].amax(1)[:, :1],
            a=nn.MultiheadAttention(8, 2, batch_first=True),
        ),
        "aten.mean",
        "inner.a",
    ),
    "products without shares": (
        lambda: _inner(lambda s, x: (x @ _swapped(x) @ x).mean(1)),
        "aten.bmm",
        "inner",
    ),
    "biased attention": (
        lambda: _inner(lambda s, x: ((x @ _swapped(x) + 1).softmax(2) @ x).mean(1)),
        "aten.add",
        "inner",
    ),
    "frames between frames": (
        lambda: _inner(
            lambda s, x: F.interpolate(_swapped(x), scale_factor=2, mode="linear").mean(2)
        ),
        "aten.arange",
        "inner",
    ),
    "transposed": (
        lambda: _inner(lambda s, x: s.a(_swapped(x)).mean(2), a=nn.ConvTranspose1d(8, 8, 3)),
        "aten.convolution",
        "inner.a",
    ),
    "dilated pool": (
        lambda: _inner(lambda s, x: s.a(_swapped(x)).mean(2), a=nn.MaxPool1d(2, dilation=2)),
        "aten.max_pool2d",
        "inner.a",
    ),
    "pool beyond the end": (
        lambda: _inner(
            lambda s, x: s.a(_swapped(x)).mean(2), a=nn.MaxPool1d(3, 3, 1, ceil_mode=True)
        ),
        "aten.max_pool2d",
        "inner.a",
    ),
    "means of fewer": (
        lambda: _inner(
            lambda s, x: s.a(_swapped(x)).mean(2), a=nn.AvgPool1d(3, 1, 1, count_include_pad=False)
        ),
        "aten.avg_pool2d",
        "inner.a",
    ),
    "adaptive pool": (
        lambda: _inner(lambda s, x: s.a(_swapped(x)).flatten(1), a=nn.AdaptiveAvgPool1d(3)),
        "aten._adaptive_avg_pool2d",
        "inner.a",
    ),
    "many outputs": (
        lambda: _inner(lambda s, x: s.a(x.mean(1)), a=nn.Linear(8, 65536)),
        "aten.addmm",
        "inner.a",
    ),
    "dropout that stays": (
        lambda: _inner(lambda s, x: F.dropout(x.mean(1), 0.5)),
        "dropout",
        "inner",
    ),
    # Another path for some numbers of frames.
    "path of short utterances": (
        lambda: _inner(lambda s, x: x.mean(1) if x.shape[1] > 100 else x.sum(1)),
        "Of",
        "inner",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_sentence_names_operator_and_layer(name):
    make, operator, layer = REFUSED[name]
    with pytest.raises(SparsifyError) as caught:
        lower(trace(make(), 8, "net"), "net")
    message = str(caught.value)
    assert message.startswith("the native engine cannot run 'net': operator '")
    assert operator in message
    assert f"of '{layer}'" in message
    assert "\n" not in message
    assert message.endswith("export --format onnx instead")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Counting(), "writes into its buffer 'calls'"),
        (Of(lambda s, x: (x.mean(1), x.sum(1))), "one tensor to one tensor"),
        (Of(lambda s, x: x), "one embedding per utterance"),
        (Of(lambda s, x: torch.zeros(1, 8)), "one embedding per utterance"),
    ],
)
def test_only_networks_that_embed_are_taken(model, message):
    with pytest.raises(SparsifyError, match=message):
        lower(trace(model, 8, "net"), "net")


def test_more_lengths_than_the_engine_can_count():
    building = Building(2)
    for i in range(64):
        building.call(torch.ops.aten.div.Tensor, building.feats, T + i)
    with pytest.raises(UnsupportedError, match="more than 64 different lengths"):
        building.call(torch.ops.aten.div.Tensor, building.feats, T + 64)


def test_a_program_can_be_written_twice():
    """The kernels are chosen by measuring programs first."""
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 4), Of(lambda s, x: x.amax(1)))
    steps = lower(trace(model, 8, "net"), "net")
    first, second = (
        write_program(
            steps, feature_dim=8, sample_rate=0, front_end=b"", choose=lambda step: 1
        ).blob
        for _ in range(2)
    )
    assert first == second
    assert np.frombuffer(first, np.int32, 4)[3] == 4
