"""The objective against closed forms."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from sparsify.recipe.sections import DistillationSection
from sparsify.training.objectives import AAMSoftmax, Objective, margin_at


def test_without_margin_it_is_scaled_cosine_softmax():
    torch.manual_seed(0)
    head = AAMSoftmax(8, 5, scale=20.0)
    x, labels = torch.randn(6, 8), torch.arange(6) % 5
    loss, accuracy = head(x, labels)
    cosine = F.cosine_similarity(x[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(loss, F.cross_entropy(20 * cosine, labels))
    assert accuracy.item() == pytest.approx((cosine.argmax(1) == labels).float().mean().item())


def test_margin_is_added_to_the_angle_of_the_true_speaker():
    head = AAMSoftmax(2, 2, scale=10.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    head.margin = 0.2
    angle = 0.7
    x = torch.tensor([[math.cos(angle), math.sin(angle)]])
    loss, _ = head(x, torch.tensor([0]))
    logits = torch.tensor([[10 * math.cos(angle + 0.2), 10 * math.sin(angle)]])
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.tensor([0])))


def test_true_logit_falls_with_the_angle_also_beyond_pi_minus_margin():
    head = AAMSoftmax(2, 2, scale=1.0)
    with torch.no_grad():  # the cosine with the second is 0 at every angle
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    head.margin = 0.3
    losses = [
        head(torch.tensor([[math.cos(a), math.sin(a)]]), torch.tensor([0]))[0].item()
        for a in torch.linspace(0.01, math.pi - 0.01, 50).tolist()
    ]
    assert all(a < b for a, b in pairwise(losses))


def test_margin_rises_fast_first():
    values = [margin_at(p / 100, 0.2, (0.2, 0.6)) for p in range(101)]
    assert values[20] == 0
    assert values[60] == values[100] == 0.2
    assert all(a <= b for a, b in pairwise(values))
    # WeSpeaker: ratio = 1 - exp(x * log(1e-3))
    assert margin_at(0.3, 0.2, (0.2, 0.6)) == pytest.approx(
        0.2 * (1 - math.exp(-math.log(1e3) / 4))
    )
    rises = [b - a for a, b in pairwise(values[20:61])]
    assert all(a > b for a, b in pairwise(rises[:-1]))


def test_gradient_is_finite_where_embedding_and_centre_coincide():
    head = AAMSoftmax(4, 3)
    head.margin = 0.2
    x = head.weight.detach()[:1].clone().requires_grad_()
    head(x, torch.tensor([0]))[0].backward()
    assert torch.isfinite(x.grad).all()


def test_speakers_apart_from_those_told_apart_have_no_part():
    head = AAMSoftmax(8, 6)
    head.among = range(2, 5)
    x, labels = torch.randn(4, 8), torch.tensor([2, 4, 3, 2])
    loss, _ = head(x, labels)
    loss.backward()
    alone = AAMSoftmax(8, 3)
    with torch.no_grad():
        alone.weight.copy_(head.weight[2:5])
    torch.testing.assert_close(loss, alone(x, labels - 2)[0])
    assert not head.weight.grad[[0, 1, 5]].any()


@pytest.mark.parametrize("loss", ["cosine", "mse"])
def test_distillation_is_added_with_its_weight(loss):
    x, targets, labels = torch.randn(5, 8), torch.randn(5, 8), torch.arange(5)
    distance = {
        "cosine": 1
        - torch.stack(
            [a @ b / a.norm() / b.norm() for a, b in zip(x, targets, strict=True)]
        ).mean(),
        "mse": (x - targets).square().mean(),
    }[loss]
    classifier = AAMSoftmax(8, 5)
    values = Objective(classifier, DistillationSection(loss=loss, weight=0.5))(x, labels, targets)
    torch.testing.assert_close(values["loss"], classifier(x, labels)[0] + 0.5 * distance)
    torch.testing.assert_close(values["distillation"], distance)
    section = DistillationSection(teacher="x", loss=loss, weight=2, labels=False)
    alone = Objective(None, section)(x, labels, targets)
    torch.testing.assert_close(alone["loss"], 2 * distance)
    assert "accuracy" not in alone
