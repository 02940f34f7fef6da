"""Building blocks shared by the speaker-embedding networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_BLOCKS = 256  # of a stage; what a file asks for must not take for ever
Variant = Literal["wespeaker", "speechbrain"]
"""Whose ECAPA-TDNN a layer computes; the two differ in detail.

SpeechBrain's convolutions see the signal mirrored at its ends where WeSpeaker's see zeros; the
first group of its Res2Net convolution passes through untouched, not the last; its pooling has a
ReLU and a batch norm before the tanh, and a smaller floor of the variances, that of the context
being biased.
"""

_VARIANCE_FLOORS: dict[Variant, float] = {"wespeaker": 1e-7, "speechbrain": 1e-12}
_PADDING_MODES: dict[Variant, Literal["zeros", "reflect"]] = {
    "wespeaker": "zeros",
    "speechbrain": "reflect",
}


class Sum(nn.Module):
    """`x + y` of two tensors `(B, C, …)`, each of which may lack channels that the sum has.

    `lacking` says which. What is lacking is zero.
    """

    first: Tensor | None
    second: Tensor | None
    second_channels: int | None

    def __init__(self) -> None:
        super().__init__()
        self.whole()

    def whole(self) -> None:
        """Both operands have all channels."""
        self.register_buffer("first", None, persistent=False)
        self.register_buffer("second", None, persistent=False)
        self.second_channels = None

    def lacking(self, operand: str, present: Sequence[bool]) -> None:
        """Tells which channels of the sum an operand has.

        Args:
            operand: `first` or `second`.
            present: For each channel of the sum.
        """
        there = torch.tensor(present, dtype=torch.int64)
        count = int(sum(present))
        places = torch.where(there > 0, there.cumsum(0) - 1, count)
        setattr(self, operand, None if count == len(present) else places)
        if operand == "second":
            self.second_channels = count

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return _placed(x, self.first) + _placed(y, self.second)


def _placed(x: Tensor, places: Tensor | None) -> Tensor:
    """The channels of a tensor in their places, zeros in all others."""
    if places is None:
        return x
    with_zeros = F.pad(x, (*(0, 0) * (x.dim() - 2), 0, 1))
    return with_zeros.index_select(1, places)


class ConvReluBN(nn.Module):
    """1-D convolution → ReLU → batch norm, in this order (ECAPA-TDNN, arXiv 2005.07143).

    Maps `(B, in_channels, T)` to `(B, out_channels, T)`; the length is kept.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        variant: Variant = "wespeaker",
    ) -> None:
        super().__init__()
        self.conv = _same_conv(in_channels, out_channels, kernel_size, 1, variant)
        self.bn = nn.BatchNorm1d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(F.relu(self.conv(x)))


class Res2Conv(nn.Module):
    """Res2Net convolution: `scale` channel groups, each fed with the output of the one before.

    Maps `(B, channels, T)` to the same shape; one group passes through untouched.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilation: int,
        scale: int,
        variant: Variant = "wespeaker",
    ) -> None:
        super().__init__()
        width = channels // scale
        self.first_untouched = variant == "speechbrain"
        self.convs = nn.ModuleList(
            _same_conv(width, width, kernel_size, dilation, variant) for _ in range(scale - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(scale - 1))
        self.sums = nn.ModuleList(Sum() for _ in range(scale - 2))

    def forward(self, x: Tensor) -> Tensor:
        place = 0 if self.first_untouched else len(self.convs)
        parts = list(torch.split(x, self._widths(x.shape[1], place), dim=1))
        untouched = parts.pop(place)
        carried = parts.pop(0)
        outputs = []
        for conv, bn, sum_ in zip_longest(self.convs, self.bns, self.sums):
            carried = bn(F.relu(conv(carried)))
            outputs.append(carried)
            if sum_ is not None:
                carried = sum_(carried, parts.pop(0))
        outputs.insert(place, untouched)
        return torch.cat(outputs, dim=1)

    def _widths(self, channels: int, place: int) -> list[int]:
        """The channels of each group: equally many, unless some were taken out."""
        first, *others = cast("list[nn.Conv1d]", list(self.convs))
        sums = cast("list[Sum]", list(self.sums))
        summed = [
            conv.in_channels if each.second_channels is None else each.second_channels
            for conv, each in zip(others, sums, strict=True)
        ]
        widths = [first.in_channels, *summed]
        widths.insert(place, channels - sum(widths))
        return widths


class SqueezeExcitation(nn.Module):
    """Channel gate from the mean over time (arXiv 1709.01507), `(B, C, T)` → `(B, C, T)`."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, bottleneck)
        self.linear2 = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.linear2(F.relu(self.linear1(x.mean(dim=2)))))
        return x * gate.unsqueeze(2)


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over time, `(B, C, T)` → `(B, 2C)`."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = _moments(_precise(x), correction=1)
        return torch.cat([mean, torch.sqrt(variance + _VARIANCE_FLOORS["wespeaker"])], dim=1)


class AttentiveStatisticsPooling(nn.Module):
    """Attention-weighted mean and standard deviation over time.

    Maps `(B, C, T)` to `(B, 2C)` (arXiv 2005.07143 §2.2).

    Args:
        channels: C.
        bottleneck: Width of the attention's hidden layer.
        context: Whether attention also sees mean and deviation over the whole utterance: `linear1`
            is then defined over the channels of `[x, mean(x), std(x)]`.
        variant: Whose pooling.

    Attributes:
        whole: Whether `linear1` is applied to all its channels in every frame, see `whole_weights`.
    """

    def __init__(
        self,
        channels: int,
        bottleneck: int = 128,
        *,
        context: bool = True,
        variant: Variant = "wespeaker",
    ) -> None:
        super().__init__()
        self.context = context
        self.whole = False
        self.floor = _VARIANCE_FLOORS[variant]
        self.correction = 1 if variant == "wespeaker" else 0
        self.linear1 = nn.Conv1d((3 if context else 1) * channels, bottleneck, kernel_size=1)
        self.bn = nn.BatchNorm1d(bottleneck) if variant == "speechbrain" else None
        self.linear2 = nn.Conv1d(bottleneck, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        precise = _precise(x)
        hidden = self._hidden(x, precise)
        if self.bn is not None:
            hidden = self.bn(F.relu(hidden))
        alpha = torch.softmax(_precise(self.linear2(torch.tanh(hidden))), dim=2)
        mean = torch.sum(alpha * precise, dim=2)
        variance = torch.sum(alpha * (precise - mean.unsqueeze(2)).square(), dim=2)
        return torch.cat([mean, torch.sqrt(variance.clamp(min=self.floor))], dim=1)

    def _hidden(self, x: Tensor, precise: Tensor) -> Tensor:
        """`linear1`; what is constant over time is computed once per utterance, not per frame."""
        if not self.context:
            return self.linear1(x)
        mean, variance = _moments(precise, self.correction)
        context = torch.cat([mean, torch.sqrt(variance + self.floor)], dim=1)
        if self.whole:
            return self.linear1(torch.cat([x, context.unsqueeze(2).expand(-1, -1, x.shape[2])], 1))
        weight, channels = self.linear1.weight, x.shape[1]
        hidden = F.conv1d(x, weight[:, :channels])
        constant = F.linear(context, weight[:, channels:, 0], self.linear1.bias)
        return hidden + constant.unsqueeze(2)


def whole_weights(model: nn.Module) -> nn.Module:
    """Makes every layer of a network use its weight in one piece; the embeddings are the same.

    That takes more multiply-adds, but is what tools expect that quantise layers.
    """
    for module in model.modules():
        if isinstance(module, AttentiveStatisticsPooling):
            module.whole = True
    return model


def _precise(x: Tensor) -> Tensor:
    """At least float32, which sums over hundreds of frames need under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _moments(x: Tensor, correction: int) -> tuple[Tensor, Tensor]:
    """Mean and variance over time, the latter as a mean of squared deviations.

    E[x²] − E[x]² would cancel where x hardly changes, and torch.var takes three times as long.
    """
    mean = x.mean(dim=2)
    # Of a single frame the variance is 0. In an export the number of frames is a symbol.
    count = cast("int", torch.sym_max(x.shape[2] - correction, 1))
    return mean, (x - mean.unsqueeze(2)).square().sum(dim=2) / count


def _same_conv(
    in_channels: int, out_channels: int, kernel_size: int, dilation: int, variant: Variant
) -> nn.Conv1d:
    """A 1-D convolution that keeps the length."""
    return nn.Conv1d(
        in_channels,
        out_channels,
        kernel_size,
        padding=dilation * (kernel_size - 1) // 2,
        dilation=dilation,
        padding_mode=_PADDING_MODES[variant],
    )
