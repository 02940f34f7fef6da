"""The objective and its schedules against closed forms."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from sparsify.training.objectives import AAMSoftmax, learning_rate_at, margin_at


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
    head = AAMSoftmax(2, 1, scale=1.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0]]))
    other = torch.nn.Parameter(torch.tensor([[0.0, 0.0]]))  # its cosine is 0 at every angle
    head.weight = torch.nn.Parameter(torch.cat([head.weight, other]))
    head.margin = 0.3
    losses = [
        head(torch.tensor([[math.cos(a), math.sin(a)]]), torch.tensor([0]))[0].item()
        for a in torch.linspace(0.01, math.pi - 0.01, 50).tolist()
    ]
    assert all(a < b for a, b in pairwise(losses))


def test_gradient_is_finite_where_embedding_and_centre_coincide():
    head = AAMSoftmax(4, 3)
    head.margin = 0.2
    x = head.weight.detach()[:1].clone().requires_grad_()
    head(x, torch.tensor([0]))[0].backward()
    assert torch.isfinite(x.grad).all()


def test_margin_schedule():
    values = [margin_at(p / 100, 0.2, (0.2, 0.6)) for p in range(101)]
    assert values[20] == 0
    assert values[60] == values[100] == 0.2
    assert all(a <= b for a, b in pairwise(values))
    assert margin_at(0.4, 0.2, (0.2, 0.6)) == pytest.approx(0.2 * (math.sqrt(1000) - 1) / 999)


def test_learning_rate_schedule():
    assert learning_rate_at(0.05, 0.1, 0.01) == pytest.approx(0.5)
    assert learning_rate_at(0.1, 0.1, 0.01) == pytest.approx(1.0)
    assert learning_rate_at(0.55, 0.1, 0.01) == pytest.approx(0.505)
    assert learning_rate_at(1.0, 0.1, 0.01) == pytest.approx(0.01)
    assert learning_rate_at(0.0, 0.0, 0.1) == pytest.approx(1.0)
