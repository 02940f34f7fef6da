"""Multiply-adds against closed forms and PyTorch's own counter of operations."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sparsify.errors import SparsifyError
from sparsify.models.registry import Architecture
from sparsify.sparsity.uses import uses_of
from sparsify.sparsity.work import NO_WORK, Work, total_work
from sparsify.sparsity.zeros import work_with
from sparsify.tensors import arrays_of

FRAMES = 200


def outlined(name, **options):
    """The work of a network of ours whose weights are all 0, of which nothing is computed."""
    model = Architecture(name, options).outline().eval()
    zeros = {name: torch.zeros(p.shape) for name, p in model.named_parameters()}
    feats = torch.zeros(1, FRAMES, 80, device="meta")
    return model, feats, work_with(arrays_of(uses_of(model, feats)), arrays_of(zeros))


@pytest.mark.parametrize("name", ["ecapa-tdnn-512", "resnet18", "resnet50"])
def test_sums_are_half_of_what_pytorch_counts(name):
    model, feats, work = outlined(name)
    with FlopCounterMode(display=False) as operations, torch.no_grad():
        model(feats)
    total = total_work(work.values())
    assert total.multiply_adds == operations.get_total_flops() / 2
    assert total.sparsity == 1


def test_published_sizes():
    """WeSpeaker's: 1.04 G, with ECAPA's context computed for all frames, and 4.55 G, with norms."""
    context = 2 * 1536 * 128 * (FRAMES - 1)  # of whose frames ours computes one
    ecapa = total_work(outlined("ecapa-tdnn-512")[2].values()).multiply_adds
    assert (ecapa + context) / 1e9 == pytest.approx(1.04, abs=0.005)
    resnet = total_work(outlined("resnet34")[2].values()).multiply_adds
    assert resnet / 1e9 == pytest.approx(4.55, rel=0.01)


def count(model, feats):
    return work_with(
        arrays_of(uses_of(model.eval(), feats)), arrays_of(dict(model.named_parameters()))
    )


@pytest.mark.parametrize(
    ("layer", "shape", "positions"),
    [
        (nn.Conv1d(6, 4, 5, padding=2), (2, 6, 11), 2 * 11),
        (nn.Conv1d(6, 4, 5, stride=2), (1, 6, 11), 4),
        (nn.Conv1d(6, 4, 3, groups=2, dilation=2), (1, 6, 11), 7),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), (1, 3, 8, 10), 4 * 5),
        (nn.ConvTranspose1d(6, 4, 5, stride=3), (2, 6, 11), 2 * 11),
        (nn.Linear(6, 4), (6,), 1),
        (nn.Linear(6, 4), (2, 6), 2),
        (nn.Linear(6, 4, bias=False), (2, 7, 6), 2 * 7),
    ],
)
def test_a_weight_counts_once_for_every_position(layer, shape, positions):
    layer.weight.data.flatten()[::3] = 0
    zeros = int((layer.weight == 0).sum())
    work = count(layer, torch.zeros(shape))
    assert work == {"weight": Work(positions * layer.weight.numel(), positions * zeros)}


class Parted(nn.Module):
    """One weight of which a part is used for every frame and a part once, and a tied one."""

    def __init__(self):
        super().__init__()
        self.mixed = nn.Linear(6, 4, bias=False)
        self.tied = nn.Linear(4, 4, bias=False)
        self.mixed.weight.data[:, :2] = 0

    def forward(self, x):
        frames = F.linear(x[..., :2], self.mixed.weight[:, :2])
        y = frames + F.linear(x.mean(1)[:, 2:], self.mixed.weight[:, 2:]).unsqueeze(1)
        return self.tied(self.tied(y)) @ y.transpose(1, 2)  # the last product has no weight


def test_parts_of_a_weight_count_as_often_as_each_is_used():
    work = count(Parted(), torch.zeros(1, 10, 6))
    assert work == {"mixed.weight": Work(10 * 8 + 16, 10 * 8), "tied.weight": Work(2 * 10 * 16, 0)}


class Recurrent(nn.Module):
    """Layers that PyTorch otherwise computes in one operation."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.attention(self.lstm(x)[0])


def test_recurrent_layers_and_attention_count():
    work = count(Recurrent(), torch.zeros(1, 10, 6))
    weights = {n: p.numel() for n, p in Recurrent().named_parameters() if p.dim() > 1}
    assert {name: each.multiply_adds for name, each in work.items()} == {
        name: 10 * size for name, size in weights.items()
    }


class Scaled(nn.Linear):
    """Multiplies by what it makes of its weight."""

    def forward(self, x):
        return F.linear(x, 2 * self.weight)


def test_a_weight_is_not_overlooked():
    with pytest.raises(SparsifyError, match=r"'weight' is used by aten\.mul.*not counted"):
        count(Scaled(6, 4), torch.zeros(1, 6))


def test_nothing_is_all_dense():
    assert (NO_WORK.sparsity, total_work([])) == (0, NO_WORK)
