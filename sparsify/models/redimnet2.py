"""ReDimNet2 (arXiv 2407.18223 and its successor), compatible with WeSpeaker's state dicts.

The same volume of channels × bins is seen in turn as an image, by 2-D convolutions, and as one
channel per pair, by a 1-D block of convolutions and attention over time. Every stage begins with a
learnt mean of all that came before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsify.errors import SparsifyError
from sparsify.models.layers import MOST_BLOCKS, AttentiveStatisticsPooling

_KERNELS = (7, 19, 31, 59)  # of the convolutions over time, before the attention
_HEADS = 4
_EPSILON = 1e-6  # of norms that are no batch norms, and of those after a compression


class Stage(NamedTuple):
    """What a stage does to the image.

    Attributes:
        bins: By which the bins are divided, and the channels multiplied.
        frames: By which the frames are divided, besides what earlier stages do.
        blocks: Residual blocks.
        expansion: Of the channels within the stage.
    """

    bins: int
    frames: int
    blocks: int
    expansion: float


_FRAMES = (1, 1, 2, 1, 2, 1)
BINS = (1, 2, 1, 2, 1, 2)
"""By which each stage divides the bins."""
BLOCKS = (2, 3, 4, 5, 4, 3)
EXPANSIONS = (2, 1, 1, 1, 1, 1)
FRAME_STEP = 4  # frames beyond a multiple of it are left out
REDUCTIONS = (36, 36, 36, 36, 18, 18)


class ChannelNorm(nn.Module):
    """Layer norm over the channels, of `(B, C, …)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        last = x.movedim(1, -1)
        return F.layer_norm(last, last.shape[-1:], self.weight, self.bias, _EPSILON).movedim(-1, 1)


class To1d(nn.Module):
    """An image as channels over time, `(B, C, F, T)` → `(B, F·C, T)`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(1, 2)


class To2d(nn.Module):
    """Channels over time as an image, `(B, F·C, T)` → `(B, C, F, T)`."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.bins, -1)).transpose(1, 2)


class WeightedMean(nn.Module):
    """A learnt mean of all stages so far, of each channel by itself."""

    def __init__(self, number: int, channels: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, number, channels, 1))

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        weights = torch.softmax(self.w, dim=1)
        return torch.stack(
            [weights[:, place] * output for place, output in enumerate(outputs)]
        ).sum(dim=0)


class ResidualBlock(nn.Module):
    """Two depthwise separable 3×3 convolutions with a residual connection, `(B, C, F, T)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _depthwise(channels)
        self.conv1pw = nn.Conv2d(channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _depthwise(channels)
        self.conv2pw = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(F.relu(self.conv1pw(self.conv1(x))))
        return F.relu(self.bn2(self.conv2pw(self.conv2(out))) + x)


class Block2d(nn.Module):
    """A residual block under the name that WeSpeaker's state dicts give it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = ResidualBlock(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_block(x)


class TimeConvolution(nn.Module):
    """Depthwise convolution over time, norm, GELU, 1×1 convolution; residual, `(B, C, T)`."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.dwconvs = nn.ModuleList(
            [nn.Conv1d(channels, channels, kernel_size, padding="same", groups=channels)]
        )
        self.norm = nn.BatchNorm1d(channels)
        self.pwconv1 = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pwconv1(F.gelu(self.norm(self.dwconvs[0](x))))


class Attention(nn.Module):
    """Multi-head self-attention over time, `(B, T, C)` → `(B, T, C)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (
            nn.Linear(channels, channels) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            each(x).unflatten(2, (_HEADS, -1)).transpose(1, 2)
            for each in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with a GELU (its tanh form) between, `(B, T, C)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(channels, channels)
        self.output_dense = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_dense(F.gelu(self.intermediate_dense(x), approximate="tanh"))


class Transformer(nn.Module):
    """An encoder layer with its norms after the residual connections, `(B, C, T)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = Attention(channels)
        self.layer_norm = nn.LayerNorm(channels, eps=_EPSILON)
        self.feed_forward = FeedForward(channels)
        self.final_layer_norm = nn.LayerNorm(channels, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        x = self.layer_norm(x + self.attention(x))
        return self.final_layer_norm(x + self.feed_forward(x)).transpose(1, 2)


class TimeContext(nn.Module):
    """Few channels, four convolutions and attention over time, all channels; residual."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.red_dim_conv = nn.Sequential(nn.Conv1d(channels, hidden, 1), ChannelNorm(hidden))
        self.tcm = nn.Sequential(
            *(TimeConvolution(hidden, size) for size in _KERNELS), Transformer(hidden)
        )
        self.exp_dim_conv = nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.exp_dim_conv(self.tcm(self.red_dim_conv(x)))


class Backbone(nn.Module):
    """The stages, `(B, 1, F, T)` → `(B, width, T)`, T a multiple of 4.

    Attributes:
        width: `out_channels`; without them, all channels × bins; of an image, `out_channels` ×
            the bins that are left.
    """

    def __init__(
        self,
        feature_dim: int,
        channels: int,
        out_channels: int | None,
        stages: Sequence[Stage],
        reductions: Sequence[int],
        *,
        image_head: bool = False,
    ) -> None:
        super().__init__()
        volume = channels * feature_dim
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding="same"), ChannelNorm(channels), To1d()
        )
        self.stages = len(stages)
        bins, frames = feature_dim, 1
        for number, (stage, reduction) in enumerate(zip(stages, reductions, strict=True)):
            frames *= stage.frames
            wide = _whole(stage.bins * channels * stage.expansion)
            step = (stage.bins, frames)
            layers: list[nn.Module] = [
                WeightedMean(number + 1, volume),
                To2d(bins),
                nn.Conv2d(channels, wide, step, step, groups=gcd(channels, wide)),
            ]
            bins, channels = bins // stage.bins, channels * stage.bins
            layers += [Block2d(wide) for _ in range(stage.blocks)]
            if stage.expansion != 1:
                norm = nn.BatchNorm2d(channels, eps=_EPSILON)
                layers.append(nn.Sequential(nn.Conv2d(wide, channels, 1), norm))
            layers += [
                To1d(),
                TimeContext(volume, volume // reduction),
                nn.Upsample(scale_factor=frames, mode="nearest"),
            ]
            setattr(self, f"stage{number}", nn.Sequential(*layers))
        self.fin_wght1d = WeightedMean(self.stages + 1, volume)
        self.fin_to2d = To2d(bins) if image_head else nn.Identity()
        self.head: nn.Module = nn.Identity()
        if out_channels:
            convolution = nn.Conv2d if image_head else nn.Conv1d
            self.head = convolution(channels if image_head else volume, out_channels, 1)
        self.width = out_channels * (bins if image_head else 1) if out_channels else volume

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self.stem(x)]
        for number in range(self.stages):
            outputs.append(getattr(self, f"stage{number}")(outputs))
        out = self.head(self.fin_to2d(self.fin_wght1d(outputs)))
        return out.flatten(1, -2)


class ReDimNet2(nn.Module):
    """Speaker-embedding network that reshapes between images and channels over time.

    Parameter names equal those of WeSpeaker's `ReDimNet2B0` to `B6`, so their checkpoints load.

    Args:
        channels: Of the image, before bins become channels.
        feature_dim: Filterbank bins per frame; a multiple of what all stages divide them by.
        embedding_dim: Size of the embedding.
        out_channels: What is pooled; without them, all channels × bins.
        attention_channels: Width of the hidden layer of the pooling's attention.
        image_head: Whether `out_channels` are those of an image, so that each of the bins that are
            left has as many, as in `B6`.
        reductions: By which the 1-D block of each of the six stages has fewer channels than there
            are channels × bins.
        bins: By which each of the stages divides the bins.
        blocks: Residual blocks of each stage.
        expansions: By how much more channels there are inside each stage.

    Raises:
        ValueError: A size does not fit.
    """

    def __init__(
        self,
        channels: int = 12,
        feature_dim: int = 72,
        embedding_dim: int = 192,
        *,
        out_channels: int | None = 64,
        attention_channels: int = 128,
        image_head: bool = False,
        reductions: Sequence[int] = REDUCTIONS,
        bins: Sequence[int] = BINS,
        blocks: Sequence[int] = BLOCKS,
        expansions: Sequence[float] = EXPANSIONS,
    ) -> None:
        super().__init__()
        volume = channels * feature_dim
        sizes = (channels, embedding_dim, attention_channels, *reductions, *bins, *blocks)
        if min(*sizes, *([] if out_channels is None else [out_channels])) < 1:
            raise ValueError("channels, embedding_dim, reductions, bins, blocks must be positive")
        if max(blocks) > MOST_BLOCKS:
            raise ValueError(f"a stage has at most {MOST_BLOCKS} blocks: {blocks}")
        if image_head and out_channels is None:
            raise ValueError("image_head needs out_channels")
        if feature_dim < prod(bins) or feature_dim % prod(bins):
            raise ValueError(
                f"feature_dim must be a positive multiple of {prod(bins)}: {feature_dim}"
            )
        of_stages: dict[str, Sequence[float]] = {
            "reductions": reductions,
            "bins": bins,
            "blocks": blocks,
            "expansions": expansions,
        }
        for name, numbers in of_stages.items():
            if len(numbers) != len(_FRAMES):
                raise ValueError(f"{name} must be {len(_FRAMES)} numbers: {numbers}")
        for reduction in reductions:
            if volume // reduction < _HEADS or volume // reduction % _HEADS:
                raise ValueError(
                    f"channels × feature_dim / {reduction} must be a multiple of {_HEADS}:"
                    f" {volume // reduction}"
                )
        stages = [Stage(*row) for row in zip(bins, _FRAMES, blocks, expansions, strict=True)]
        self.backbone = Backbone(
            feature_dim, channels, out_channels, stages, reductions, image_head=image_head
        )
        self.pool = AttentiveStatisticsPooling(self.backbone.width, attention_channels)
        self.bn = nn.BatchNorm1d(2 * self.backbone.width)
        self.linear = nn.Linear(2 * self.backbone.width, embedding_dim)
        self.min_frames = FRAME_STEP

    def forward(self, feats: Tensor) -> Tensor:
        """Embeds utterances.

        Args:
            feats: Filterbank features `(B, T, feature_dim)`; frames beyond a multiple of 4 are left
                out.

        Returns:
            Embeddings `(B, embedding_dim)`, not length-normalised.

        Raises:
            SparsifyError: There are fewer than four frames.
        """
        frames = feats.shape[1]
        if not torch.compiler.is_compiling() and frames < FRAME_STEP:
            raise SparsifyError(
                f"{frames} frames are too few for a network that needs {FRAME_STEP}: give longer"
                " audio"
            )
        whole = feats[:, : frames // FRAME_STEP * FRAME_STEP].transpose(1, 2).unsqueeze(1)
        return self.linear(self.bn(self.pool(self.backbone(whole))))


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def _whole(channels: float) -> int:
    if channels < 1 or channels != int(channels):
        raise ValueError(f"expansions must leave whole channels inside a stage: {channels:g}")
    return int(channels)
