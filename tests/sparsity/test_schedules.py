"""Schedules against their formula."""

import pytest
import torch

from sparsify.sparsity.schedules import Constant, Polynomial, Ramp


def test_cubic_schedule_is_zhu_and_gupta():
    schedule = Polynomial(0.1, 0.9, begin=100, end=300)
    for step in (100, 137, 250, 299):
        expected = 0.9 + (0.1 - 0.9) * (1 - (step - 100) / 200) ** 3
        assert schedule(step) == pytest.approx(expected)
    assert [schedule(step) for step in (0, 100, 300, 999)] == pytest.approx([0.1, 0.1, 0.9, 0.9])


def test_linear_and_constant():
    assert Polynomial(0.99, 0.5, 0, 10, power=1)(5) == pytest.approx(0.745)
    assert Constant(0.7)(123) == 0.7


def test_a_ramp_is_the_polynomial_from_where_it_begins():
    ramp = Ramp(0.9, 200, power=2.0)
    with pytest.raises(RuntimeError, match="before the first step"):
        ramp(1)
    ramp.begin, ramp.initial = 100, torch.tensor(0.1)
    expected = Polynomial(0.1, 0.9, begin=100, end=300, power=2.0)
    for step in (100, 137, 299, 300, 999):
        assert float(ramp(step)) == pytest.approx(expected(step))
