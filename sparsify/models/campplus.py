"""CAM++ (arXiv 2303.00332), compatible with WeSpeaker's state dicts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsify.models.layers import StatisticsPooling
from sparsify.models.resnet import BasicBlock

SEGMENT = 100  # frames that share a context, of the mean over them
# Layers, and the dilation of their convolutions, of the three dense blocks.
_BLOCKS = ((12, 1), (24, 2), (16, 2))


class Head(nn.Module):
    """A small 2-D ResNet that halves the bins three times, `(B, bins, T)` → `(B, C·bins/8, T)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1, self.layer2 = (
            nn.Sequential(*(BasicBlock(channels, channels, stride) for stride in ((2, 1), 1)))
            for _ in range(2)
        )
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x.unsqueeze(1))))
        x = F.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return x.flatten(1, 2)


class NormReLU(nn.Module):
    """Batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.batchnorm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.batchnorm(x))


class ConvNormReLU(nn.Module):
    """1-D convolution, batch norm, ReLU; keeps the length but for the stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False
        )
        self.nonlinear = NormReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear(self.linear(x))


class ContextMask(nn.Module):
    """A convolution whose channels are gated by the context: context-aware masking, §2.2.

    The context of a frame is the mean over the utterance and the mean over its segment of 100
    frames. Maps `(B, in_channels, T)` to `(B, out_channels, T)`.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(in_channels, in_channels // 2, 1)
        self.linear2 = nn.Conv1d(in_channels // 2, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        context = x.mean(dim=2, keepdim=True) + segment_means(x)
        gate = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        return self.linear_local(x) * gate


class DenseLayer(nn.Module):
    """Norm, bottleneck, norm, context-aware convolution; its output joins its input."""

    def __init__(self, in_channels: int, bottleneck: int, growth: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = NormReLU(in_channels)
        self.linear1 = nn.Conv1d(in_channels, bottleneck, 1, bias=False)
        self.nonlinear2 = NormReLU(bottleneck)
        self.cam_layer = ContextMask(bottleneck, growth, dilation)

    def forward(self, x: Tensor) -> Tensor:
        grown = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return torch.cat([x, grown], dim=1)


class Transition(nn.Module):
    """Norm, ReLU and a 1×1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.nonlinear = NormReLU(in_channels)
        self.linear = nn.Conv1d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.nonlinear(x))


class Embedding(nn.Module):
    """Linear layer and a batch norm without scale and shift, `(B, C)` → `(B, D)`."""

    def __init__(self, in_channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(in_channels, embedding_dim, 1, bias=False)
        self.nonlinear = nn.Sequential()
        self.nonlinear.add_module("batchnorm", nn.BatchNorm1d(embedding_dim, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear(self.linear(x.unsqueeze(2)).squeeze(2))


class CAMPPlus(nn.Module):
    """Densely connected time-delay network with context-aware masking.

    Parameter names equal those of WeSpeaker's `CAMPPlus`, so its checkpoints load.

    Args:
        feature_dim: Filterbank bins per frame; a multiple of 8.
        embedding_dim: Size of the embedding.
        growth_channels: What every layer of a dense block adds.
        bottleneck_channels: Width inside every layer of a dense block.
        channels: Width of the layer before the dense blocks.
        head_channels: Width of the 2-D network at the beginning, where most of the work is.

    Raises:
        ValueError: A size is not positive, or the bins are no multiple of 8.
    """

    def __init__(
        self,
        feature_dim: int = 80,
        embedding_dim: int = 512,
        *,
        channels: int = 128,
        growth_channels: int = 32,
        bottleneck_channels: int = 128,
        head_channels: int = 32,
    ) -> None:
        super().__init__()
        if min(embedding_dim, channels, growth_channels, head_channels) < 1 or (
            bottleneck_channels < 2
        ):
            raise ValueError(
                "embedding_dim, channels, growth_channels and head_channels must be positive, and"
                " bottleneck_channels at least 2"
            )
        if feature_dim < 8 or feature_dim % 8:
            raise ValueError(f"feature_dim must be a positive multiple of 8: {feature_dim}")
        self.head = Head(head_channels)
        self.xvector = nn.Sequential()
        add = self.xvector.add_module
        add("tdnn", ConvNormReLU(head_channels * feature_dim // 8, channels, 5, stride=2))
        for number, (layers, dilation) in enumerate(_BLOCKS, start=1):
            block = nn.Sequential()
            for layer in range(layers):
                block.add_module(
                    f"tdnnd{layer + 1}",
                    DenseLayer(channels, bottleneck_channels, growth_channels, dilation),
                )
                channels += growth_channels
            add(f"block{number}", block)
            add(f"transit{number}", Transition(channels, channels // 2))
            channels //= 2
        add("out_nonlinear", NormReLU(channels))
        add("stats", StatisticsPooling())
        add("dense", Embedding(2 * channels, embedding_dim))

    def forward(self, feats: Tensor) -> Tensor:
        """Embeds utterances.

        Args:
            feats: Filterbank features `(B, T, feature_dim)`.

        Returns:
            Embeddings `(B, embedding_dim)`, not length-normalised.
        """
        return self.xvector(self.head(feats.transpose(1, 2)))


def segment_means(x: Tensor) -> Tensor:
    """The mean over each segment of frames, at every one of them.

    The last segment may be shorter, and has the mean of what there is.

    Args:
        x: `(B, C, T)`.

    Returns:
        `(B, C, T)`.
    """
    batch, channels, frames = x.shape
    means = F.avg_pool1d(x, SEGMENT, SEGMENT, ceil_mode=True)
    repeated = means.unsqueeze(3).expand(-1, -1, -1, SEGMENT).reshape(batch, channels, -1)
    return repeated[:, :, :frames]
