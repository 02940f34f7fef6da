"""What training minimises."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsify.recipe.sections import DistillationSection


class AAMSoftmax(nn.Module):
    """Additive angular margin softmax over speakers (ArcFace, arXiv 1801.07698).

    The logit of the true speaker is `s·cos(θ + m)`, the others are `s·cos θ`. Beyond `θ = π − m`,
    where `cos(θ + m)` would rise again, it goes on as `cos θ − m·sin m`.

    Args:
        embedding_dim: Size D of the embeddings.
        classes: Number of training speakers.
        scale: Scale s.

    Attributes:
        margin: Margin m in radians.
        among: The speakers that are told apart; the others have no part in the loss.
    """

    def __init__(self, embedding_dim: int, classes: int, scale: float = 32.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, embedding_dim))
        nn.init.xavier_uniform_(self.weight)
        self.scale = scale
        self.margin = 0.0
        self.among = range(classes)

    def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the loss.

        Args:
            embeddings: `(B, D)`.
            labels: Speaker indices `(B,)`, int64, all of them in `among`.

        Returns:
            The mean cross-entropy, and the share of the batch that is classified correctly without
            the margin; both 0-dim.
        """
        weight = self.weight[self.among.start : self.among.stop]
        labels = labels - self.among.start
        cosine = F.linear(F.normalize(embeddings), F.normalize(weight))
        correct = (cosine.argmax(dim=1) == labels).float().mean()
        true = cosine.gather(1, labels[:, None])
        sine = torch.sqrt((1 - true**2).clamp(min=1e-9))
        shifted = true * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = true - self.margin * math.sin(self.margin)
        shifted = torch.where(true > -math.cos(self.margin), shifted, beyond)
        logits = self.scale * cosine.scatter(1, labels[:, None], shifted)
        return F.cross_entropy(logits, labels), correct.detach()


def margin_at(progress: float, final: float, ramp: tuple[float, float]) -> float:
    """The margin after a share of training: 0, then rising to `final`, fast first.

    It rises as `1 − 1000^−x` between the two ends of `ramp`, as WeSpeaker's margin scheduler does
    (`increase_type: exp` in wespeaker/utils/schedulers.py).

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
    return final * (1 - 1000**-share)


class Objective(nn.Module):
    """The loss of a step: that of the speakers, that of distillation, or their sum.

    Args:
        classifier: Tells the speakers apart; `None` does without labels.
        distillation: How the embeddings of a teacher are learnt.
    """

    def __init__(self, classifier: AAMSoftmax | None, distillation: DistillationSection) -> None:
        super().__init__()
        self.classifier = classifier
        self.distillation = distillation

    def forward(
        self, embeddings: Tensor, labels: Tensor, targets: Tensor | None
    ) -> dict[str, Tensor]:
        """Computes the losses.

        Args:
            embeddings: `(B, D)`.
            labels: Speaker indices `(B,)`, int64.
            targets: The teacher's embeddings `(B, D)`, if there is a teacher.

        Returns:
            0-dim tensors: `loss`, which is minimised; `accuracy` where labels are used;
            `distillation`, its part of the loss without the weight, where there is a teacher.
        """
        values: dict[str, Tensor] = {"loss": embeddings.new_zeros(())}
        if self.classifier is not None:
            values["loss"], values["accuracy"] = self.classifier(embeddings, labels)
        if targets is not None:
            distance = embedding_distance(embeddings, targets, self.distillation.loss)
            values["loss"] = values["loss"] + self.distillation.weight * distance
            values["distillation"] = distance.detach()
        return values


def embedding_distance(
    embeddings: Tensor, targets: Tensor, loss: Literal["cosine", "mse"]
) -> Tensor:
    """How far embeddings `(B, D)` are from those of a teacher: mean of 1 − cos, or mean square."""
    if loss == "mse":
        return F.mse_loss(embeddings, targets)
    return 1 - F.cosine_similarity(embeddings, targets).mean()
