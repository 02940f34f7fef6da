"""Which models are averaged, and that the average of landed models is one."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsify.training.averaging import Finalists, average_weights, same_zeros


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0]), min_size=1, max_size=12), st.integers(2, 5))
def test_finalists_are_the_last_or_the_best(errors, count):
    last, best = Finalists(count, "last"), Finalists(count, "best")
    for step, error in enumerate(errors):
        last.takes(step, error)
        best.takes(step, error)
    steps = range(len(errors))
    assert list(last.errors) == list(steps)[-count:]
    ranked = sorted(steps, key=lambda step: (errors[step], -step))[:count]
    assert list(best.errors) == sorted(ranked)


def test_one_model_is_no_average():
    assert not Finalists(1, "last").takes(1, 2.0)


def test_a_worse_model_is_not_taken():
    best = Finalists(2, "best")
    assert [best.takes(step, error) for step, error in enumerate([1, 2, 3, 2])] == [
        True,
        True,
        False,
        True,
    ]


@given(st.integers(2, 7), st.integers(0, 1000))
def test_average_is_the_mean_and_keeps_common_zeros(count, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(50, generator=generator) > 0.7
    states = [
        {"w": torch.randn(50, generator=generator) * mask, "n": torch.tensor(k)}
        for k in range(count)
    ]
    average = average_weights(states)
    expected = torch.stack([state["w"].double() for state in states]).sum(0) / count
    torch.testing.assert_close(average["w"], expected.float())
    assert torch.equal(average["w"] == 0, ~mask)
    assert average["w"].dtype == torch.float32
    assert average["n"] == count - 1


def test_models_with_other_zeros_are_told_apart():
    states = {
        1: {"w": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0])},
        2: {"w": torch.tensor([0.0, 1.0]), "b": torch.tensor([1.0])},
        3: {"w": torch.tensor([0.0, 5.0]), "b": torch.tensor([0.0])},
    }
    assert same_zeros(states, ["w"]) == [2, 3]
