"""What training minimises."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AAMSoftmax(nn.Module):
    """Additive angular margin softmax over speakers (ArcFace, arXiv 1801.07698).

    The logit of the true speaker is `s·cos(θ + m)`, the others are `s·cos θ`. Beyond `θ = π − m`,
    where `cos(θ + m)` would rise again, it goes on as `cos θ − m·sin m`.

    Args:
        embedding_dim: Size D of the embeddings.
        classes: Number of training speakers.
        scale: Scale s.
    """

    def __init__(self, embedding_dim: int, classes: int, scale: float = 32.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, embedding_dim))
        nn.init.xavier_uniform_(self.weight)
        self.scale = scale
        self.margin = 0.0

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the loss.

        Args:
            embeddings: `(B, D)`.
            labels: Speaker indices `(B,)`, int64.

        Returns:
            The mean cross-entropy, and the share of the batch that is classified correctly without
            the margin; both 0-dim.
        """
        cosine = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        correct = (cosine.argmax(dim=1) == labels).float().mean()
        true = cosine.gather(1, labels[:, None])
        sine = torch.sqrt((1 - true**2).clamp(min=1e-9))
        shifted = true * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = true - self.margin * math.sin(self.margin)
        shifted = torch.where(true > -math.cos(self.margin), shifted, beyond)
        logits = self.scale * cosine.scatter(1, labels[:, None], shifted)
        return F.cross_entropy(logits, labels), correct.detach()


def margin_at(progress: float, final: float, ramp: tuple[float, float]) -> float:
    """The margin after a share of training: 0, then rising exponentially to `final`.

    It rises as `(1000^x − 1) / 999` between the two ends of `ramp`: slowly first, so that the
    network learns to tell speakers apart before it has to do so with a margin.

    Args:
        progress: Share of training done, in [0, 1].
        final: Margin in radians.
        ramp: Shares of training where the rise begins and ends.
    """
    begin, end = ramp
    if progress >= end:
        return final
    if progress <= begin:
        return 0.0
    share = (progress - begin) / (end - begin)
    return final * (math.exp(share * math.log(1000)) - 1) / 999


def learning_rate_at(progress: float, warmup: float, final: float) -> float:
    """The learning rate as a share of its peak: linear warm-up, then half a cosine to `final`.

    Args:
        progress: Share of training done, in [0, 1].
        warmup: Share of training in which the rate rises.
        final: What is left at the end.
    """
    if progress < warmup:
        return progress / warmup
    share = (progress - warmup) / max(1 - warmup, 1e-12)
    return final + (1 - final) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
