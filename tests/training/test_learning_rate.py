"""The learning rate over a training, against closed forms."""

import math

import pytest
import torch

from sparsify.recipe.sections import TrainingSection
from sparsify.training.learning_rate import LearningRate


def shape(**section):
    return LearningRate(TrainingSection(**section))


def test_cosine():
    rate = shape(warmup=0.1, final_lr=0.01)
    assert rate(0.05) == pytest.approx(0.5)
    assert rate(0.1) == pytest.approx(1.0)
    assert rate(0.55) == pytest.approx(0.505)
    assert rate(1.0) == pytest.approx(0.01)
    assert shape(warmup=0.0, final_lr=0.1)(0.0) == pytest.approx(1.0)


def test_exponential_decays_from_the_start_under_the_warm_up():
    rate = shape(schedule="exponential", warmup=0.04, final_lr=5e-4)
    assert rate(0.02) == pytest.approx(0.5 * 5e-4**0.02)
    assert rate(0.5) == pytest.approx(math.sqrt(5e-4))
    assert rate(1.0) == pytest.approx(5e-4)


def test_plateau_falls_where_torchs_does():
    errors = [9, 8, 8.5, 8.1, 8.0, 7.9, 8, 8, 8, 8, 8, 8, 7, 7, 7, 7, 7, 7]
    rate = shape(schedule="plateau", warmup=0, final_lr=0, plateau={"factor": 0.3, "patience": 2})
    other = torch.optim.SGD([torch.zeros(1)], 1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        other, factor=0.3, patience=2, threshold=0, eps=0
    )
    for error in errors:
        rate.validated(error)
        scheduler.step(error)
        assert rate(0.5) == pytest.approx(other.param_groups[0]["lr"])
    again = shape(schedule="plateau", warmup=0, final_lr=0, plateau={"factor": 0.3, "patience": 2})
    again.load_state_dict(rate.state_dict())
    assert again.state_dict() == rate.state_dict()
    assert again(0.9) == rate(0.9) < 1


def test_plateau_keeps_the_least_rate():
    rate = shape(schedule="plateau", warmup=0, final_lr=0.2, plateau={"patience": 0})
    for _ in range(9):
        rate.validated(1.0)
    assert rate(1.0) == 0.2
