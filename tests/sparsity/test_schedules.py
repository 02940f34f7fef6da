"""Schedules against their formula."""

import pytest

from sparsify.sparsity.schedules import Constant, Polynomial


def test_cubic_schedule_is_zhu_and_gupta():
    schedule = Polynomial(0.1, 0.9, begin=100, end=300)
    for step in (100, 137, 250, 299):
        expected = 0.9 + (0.1 - 0.9) * (1 - (step - 100) / 200) ** 3
        assert schedule(step) == pytest.approx(expected)
    assert [schedule(step) for step in (0, 100, 300, 999)] == pytest.approx([0.1, 0.1, 0.9, 0.9])


def test_linear_and_constant():
    assert Polynomial(0.99, 0.5, 0, 10, power=1)(5) == pytest.approx(0.745)
    assert Constant(0.7)(123) == 0.7
