"""ECAPA-TDNN (arXiv 2005.07143), compatible with WeSpeaker's and SpeechBrain's embeddings."""

from __future__ import annotations

from typing import ClassVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsify.errors import SparsifyError
from sparsify.models.layers import (
    AttentiveStatisticsPooling,
    ConvReluBN,
    Res2Conv,
    SqueezeExcitation,
    Sum,
    Variant,
)


class SERes2Block(nn.Module):
    """1×1 → Res2 → 1×1 → squeeze-excitation, with a residual connection."""

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilation: int,
        scale: int,
        se_channels: int,
        variant: Variant,
    ) -> None:
        super().__init__()
        self.se_res2block = nn.Sequential(
            ConvReluBN(channels, channels),
            Res2Conv(channels, kernel_size, dilation, scale, variant),
            ConvReluBN(channels, channels),
            SqueezeExcitation(channels, se_channels),
        )
        self.sum = Sum()

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.sum(x, self.se_res2block(x))
        return summed


class ECAPATDNN(nn.Module):
    """Speaker-embedding network with channel attention, propagation and aggregation.

    Parameter names equal those of WeSpeaker's `ECAPA_TDNN_GLOB`, so its checkpoints load. With
    `variant="speechbrain"` it computes what SpeechBrain's does, see `sparsify.models.speechbrain`.

    Args:
        channels: Width of the frame-level layers (512 and 1024 in the paper); a multiple of 8.
        feature_dim: Filterbank bins per frame.
        embedding_dim: Size of the embedding.
        aggregation_channels: Width of the layer that joins the three blocks and is pooled.
        se_channels: Width of the hidden layer of each squeeze-excitation.
        attention_channels: Width of the hidden layer of the pooling's attention.
        global_context: Whether the attention of the pooling sees the whole utterance.
        variant: Whose ECAPA-TDNN, `wespeaker` or `speechbrain`. Besides the differences that
            `sparsify.models.layers.Variant` lists, the latter has a batch norm before the pooling.

    Raises:
        ValueError: `channels` is not a positive multiple of 8, or the variant unknown.
    """

    SCALE = 8
    MIN_FRAMES: ClassVar[dict[Variant, int]] = {"wespeaker": 1, "speechbrain": 5}
    """Mirroring takes one frame more than the widest padding."""

    def __init__(
        self,
        channels: int = 512,
        feature_dim: int = 80,
        embedding_dim: int = 192,
        aggregation_channels: int = 1536,
        *,
        se_channels: int = 128,
        attention_channels: int = 128,
        global_context: bool = True,
        variant: Variant = "wespeaker",
    ) -> None:
        super().__init__()
        if channels < self.SCALE or channels % self.SCALE:
            raise ValueError(f"channels must be a positive multiple of {self.SCALE}: {channels}")
        if variant not in get_args(Variant):
            raise ValueError(f"variant must be one of {', '.join(get_args(Variant))}: {variant!r}")
        self.min_frames = self.MIN_FRAMES[variant]
        self.layer1 = ConvReluBN(feature_dim, channels, kernel_size=5, variant=variant)
        self.layer2 = SERes2Block(channels, 3, 2, self.SCALE, se_channels, variant)
        self.layer3 = SERes2Block(channels, 3, 3, self.SCALE, se_channels, variant)
        self.layer4 = SERes2Block(channels, 3, 4, self.SCALE, se_channels, variant)
        self.conv = nn.Conv1d(3 * channels, aggregation_channels, kernel_size=1)
        self.conv_bn = nn.BatchNorm1d(aggregation_channels) if variant == "speechbrain" else None
        self.pool = AttentiveStatisticsPooling(
            aggregation_channels, attention_channels, context=global_context, variant=variant
        )
        self.bn = nn.BatchNorm1d(2 * aggregation_channels)
        self.linear = nn.Linear(2 * aggregation_channels, embedding_dim)

    def forward(self, feats: Tensor) -> Tensor:
        """Embeds utterances.

        Args:
            feats: Filterbank features `(B, T, feature_dim)`.

        Returns:
            Embeddings `(B, embedding_dim)`, not length-normalised.

        Raises:
            SparsifyError: SpeechBrain's variant has fewer than five frames to mirror.
        """
        if not torch.compiler.is_compiling() and feats.shape[1] < self.min_frames:
            raise SparsifyError(
                f"{feats.shape[1]} frames are too few for a network that needs {self.min_frames}:"
                " give longer audio"
            )
        x = self.layer1(feats.transpose(1, 2))
        second = self.layer2(x)
        third = self.layer3(second)
        fourth = self.layer4(third)
        joined = F.relu(self.conv(torch.cat([second, third, fourth], dim=1)))
        if self.conv_bn is not None:
            joined = self.conv_bn(joined)
        return self.linear(self.bn(self.pool(joined)))
