"""Building blocks shared by the speaker-embedding networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_VARIANCE_FLOOR = 1e-7


class ConvReluBN(nn.Module):
    """1-D convolution → ReLU → batch norm, in this order (ECAPA-TDNN, arXiv 2005.07143).

    Maps `(B, in_channels, T)` to `(B, out_channels, T)`; the length is kept.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            in_channels,
            out_channels,
            kernel_size,
            padding=dilation * (kernel_size - 1) // 2,
            dilation=dilation,
        )
        self.bn = nn.BatchNorm1d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(F.relu(self.conv(x)))


class Res2Conv(nn.Module):
    """Res2Net convolution: `scale` channel groups, each fed with the output of the one before.

    Maps `(B, channels, T)` to the same shape; the last group passes through untouched.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, scale: int) -> None:
        super().__init__()
        self.width = channels // scale
        padding = dilation * (kernel_size - 1) // 2
        self.convs = nn.ModuleList(
            nn.Conv1d(self.width, self.width, kernel_size, padding=padding, dilation=dilation)
            for _ in range(scale - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(self.width) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.width, dim=1)
        outputs = []
        carried: Tensor | None = None
        for part, conv, bn in zip(parts, self.convs, self.bns, strict=False):
            carried = part if carried is None else carried + part
            carried = bn(F.relu(conv(carried)))
            outputs.append(carried)
        return torch.cat([*outputs, parts[-1]], dim=1)


class SqueezeExcitation(nn.Module):
    """Channel gate from the mean over time (arXiv 1709.01507), `(B, C, T)` → `(B, C, T)`."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, bottleneck)
        self.linear2 = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.linear2(F.relu(self.linear1(x.mean(dim=2)))))
        return x * gate.unsqueeze(2)


class AttentiveStatisticsPooling(nn.Module):
    """Attention-weighted mean and standard deviation over time, with global context.

    Maps `(B, C, T)` to `(B, 2C)` (arXiv 2005.07143 §2.2). `linear1` is defined over the channels
    of `[x, mean(x), std(x)]`. The last two are constant over time, so their share of the product
    is computed once per utterance instead of once per frame.
    """

    def __init__(self, channels: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.channels = channels
        self.linear1 = nn.Conv1d(3 * channels, bottleneck, kernel_size=1)
        self.linear2 = nn.Conv1d(bottleneck, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        # Under autocast the moments, sums over hundreds of frames, need float32. The variances are
        # means of squared deviations: E[x²] − E[x]² would cancel where x hardly changes, and
        # torch.var takes three times as long.
        x32 = x.float()
        mean = x32.mean(dim=2)
        variance = (x32 - mean.unsqueeze(2)).square().sum(dim=2) / (x.shape[2] - 1)
        context = torch.cat([mean, torch.sqrt(variance + _VARIANCE_FLOOR)], dim=1)
        weight = self.linear1.weight
        hidden = F.conv1d(x, weight[:, : self.channels], self.linear1.bias)
        hidden = hidden + F.linear(context, weight[:, self.channels :, 0]).unsqueeze(2)
        alpha = torch.softmax(self.linear2(torch.tanh(hidden)).float(), dim=2)
        mean = torch.sum(alpha * x32, dim=2)
        variance = torch.sum(alpha * (x32 - mean.unsqueeze(2)).square(), dim=2)
        return torch.cat([mean, torch.sqrt(variance.clamp(min=_VARIANCE_FLOOR))], dim=1)
