"""ECAPA-TDNN (arXiv 2005.07143), compatible with WeSpeaker's state dicts and embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsify.models.layers import (
    AttentiveStatisticsPooling,
    ConvReluBN,
    Res2Conv,
    SqueezeExcitation,
)


class SERes2Block(nn.Module):
    """1×1 → Res2 → 1×1 → squeeze-excitation, with a residual connection."""

    def __init__(self, channels: int, kernel_size: int, dilation: int, scale: int) -> None:
        super().__init__()
        self.se_res2block = nn.Sequential(
            ConvReluBN(channels, channels),
            Res2Conv(channels, kernel_size, dilation, scale),
            ConvReluBN(channels, channels),
            SqueezeExcitation(channels, bottleneck=128),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.se_res2block(x)


class ECAPATDNN(nn.Module):
    """Speaker-embedding network with channel attention, propagation and aggregation.

    Parameter names equal those of WeSpeaker's `ECAPA_TDNN_GLOB`, so its checkpoints load.

    Args:
        channels: Width of the frame-level layers (512 and 1024 in the paper); a multiple of 8.
        feature_dim: Filterbank bins per frame.
        embedding_dim: Size of the embedding.
        aggregation_channels: Width of the layer that joins the three blocks and is pooled.

    Raises:
        ValueError: `channels` is not a positive multiple of 8.
    """

    SCALE = 8

    def __init__(
        self,
        channels: int = 512,
        feature_dim: int = 80,
        embedding_dim: int = 192,
        aggregation_channels: int = 1536,
    ) -> None:
        super().__init__()
        if channels < self.SCALE or channels % self.SCALE:
            raise ValueError(f"channels must be a positive multiple of {self.SCALE}: {channels}")
        self.layer1 = ConvReluBN(feature_dim, channels, kernel_size=5)
        self.layer2 = SERes2Block(channels, kernel_size=3, dilation=2, scale=self.SCALE)
        self.layer3 = SERes2Block(channels, kernel_size=3, dilation=3, scale=self.SCALE)
        self.layer4 = SERes2Block(channels, kernel_size=3, dilation=4, scale=self.SCALE)
        self.conv = nn.Conv1d(3 * channels, aggregation_channels, kernel_size=1)
        self.pool = AttentiveStatisticsPooling(aggregation_channels)
        self.bn = nn.BatchNorm1d(2 * aggregation_channels)
        self.linear = nn.Linear(2 * aggregation_channels, embedding_dim)

    def forward(self, feats: Tensor) -> Tensor:
        """Embeds utterances.

        Args:
            feats: Filterbank features `(B, T, feature_dim)`.

        Returns:
            Embeddings `(B, embedding_dim)`, not length-normalised.
        """
        x = self.layer1(feats.transpose(1, 2))
        second = self.layer2(x)
        third = self.layer3(second)
        fourth = self.layer4(third)
        joined = F.relu(self.conv(torch.cat([second, third, fourth], dim=1)))
        return self.linear(self.bn(self.pool(joined)))
