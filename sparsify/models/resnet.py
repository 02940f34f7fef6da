"""ResNets for filterbanks (arXiv 1512.03385), compatible with WeSpeaker's state dicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sparsify.models.layers import (
    MOST_BLOCKS,
    AttentiveStatisticsPooling,
    StatisticsPooling,
    Sum,
)

Pooling = Literal["statistics", "attentive"]
Stride = int | tuple[int, int]
"""Of frequency and time, or of both."""


class Projection(nn.Conv2d):
    """A 1×1 convolution, which in training leaves out what the stride skips beforehand.

    The result is the same. The gradient of a strided one overruns its memory in oneDNN (torch
    2.14.1, AVX-512) if there are fewer than 16 channels that lie last, as torch.compile has them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps `(B, in_channels, F, T)` to `(B, out_channels, ⌈F/stride⌉, ⌈T/stride⌉)`."""
        if not self.training:
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut, `(B, C, F, T)` → `(B, width, F/stride, T/stride)`."""

    EXPANSION = 1

    def __init__(self, in_channels: int, width: int, stride: Stride) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(in_channels, width, stride)
        self.sum = Sum()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.sum(self.bn2(self.conv2(out)), self.shortcut(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions with a shortcut; puts out four times its width."""

    EXPANSION = 4

    def __init__(self, in_channels: int, width: int, stride: Stride) -> None:
        super().__init__()
        out_channels = self.EXPANSION * width
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)
        self.sum = Sum()

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.sum(self.bn3(self.conv3(out)), self.shortcut(x)))


class ResNet(nn.Module):
    """Speaker-embedding network of 2-D convolutions over frequency and time.

    The spectrogram is an image of one channel; the last three of four stages halve both its sides.
    Parameter names equal those of WeSpeaker's ResNets, so their checkpoints load.

    Args:
        blocks: Residual blocks of the four stages.
        bottleneck: Whether these are bottlenecks, as from 50 layers on.
        channels: Width of the first stage; each later one doubles it.
        feature_dim: Filterbank bins per frame.
        embedding_dim: Size of the embedding.
        pooling: Over time: `statistics`, mean and standard deviation, or `attentive`, the same with
            learnt weights.

    Raises:
        ValueError: A size is not positive, a stage is deeper than any, or the pooling unknown.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        bottleneck: bool = False,
        channels: int = 32,
        feature_dim: int = 80,
        embedding_dim: int = 256,
        pooling: Pooling = "statistics",
    ) -> None:
        super().__init__()
        if min(channels, feature_dim, embedding_dim, *blocks) < 1 or len(blocks) != 4:
            raise ValueError(
                "channels, feature_dim, embedding_dim and four blocks must be positive"
            )
        if max(blocks) > MOST_BLOCKS:
            raise ValueError(f"a stage has at most {MOST_BLOCKS} blocks: {blocks}")
        if pooling not in ("statistics", "attentive"):
            raise ValueError(f"pooling must be 'statistics' or 'attentive': {pooling!r}")
        kind = Bottleneck if bottleneck else BasicBlock
        self.conv1 = _conv(1, channels, 3)
        self.bn1 = nn.BatchNorm2d(channels)
        widths = [channels * 2**stage for stage in range(4)]
        inputs = [channels, *(width * kind.EXPANSION for width in widths)]
        self.layer1 = _stage(kind, inputs[0], widths[0], blocks[0], stride=1)
        self.layer2 = _stage(kind, inputs[1], widths[1], blocks[1], stride=2)
        self.layer3 = _stage(kind, inputs[2], widths[2], blocks[2], stride=2)
        self.layer4 = _stage(kind, inputs[3], widths[3], blocks[3], stride=2)
        pooled = inputs[4] * -(-feature_dim // 8)  # three halvings, each rounding up
        self.pool: nn.Module = (
            StatisticsPooling()
            if pooling == "statistics"
            else AttentiveStatisticsPooling(pooled, context=False)
        )
        self.seg_1 = nn.Linear(2 * pooled, embedding_dim)

    def forward(self, feats: Tensor) -> Tensor:
        """Embeds utterances.

        Args:
            feats: Filterbank features `(B, T, feature_dim)`.

        Returns:
            Embeddings `(B, embedding_dim)`, not length-normalised.
        """
        x = feats.transpose(1, 2).unsqueeze(1)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.seg_1(self.pool(x.flatten(1, 2)))


def _stage(
    kind: type[BasicBlock] | type[Bottleneck], channels: int, width: int, blocks: int, stride: int
) -> nn.Sequential:
    later = [kind(kind.EXPANSION * width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(kind(channels, width, stride), *later)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: Stride = 1) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
    )


def _shortcut(in_channels: int, out_channels: int, stride: Stride) -> nn.Sequential:
    """What is added to a block's output: its input, projected where the shapes differ."""
    if stride == 1 and in_channels == out_channels:
        return nn.Sequential()
    projection = Projection(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(projection, nn.BatchNorm2d(out_channels))
