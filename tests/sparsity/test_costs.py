"""Masks of what weights cost, against a sort of numpy, and the laws of a budget."""

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsify.sparsity.costs import PricedWeights, compact, kept_cost, zeros_wanted
from sparsify.sparsity.masks import largest_masks

SHAPES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=4)


@st.composite
def priced(draw, most=9):
    """Scores with ties and zeros, and what they cost: a number for all, or one for each."""
    scores, costs = [], []
    for shape in draw(SHAPES):
        values = st.lists(st.integers(0, 4), min_size=prod(shape), max_size=prod(shape))
        scores.append(torch.tensor(draw(values), dtype=torch.float32).view(shape))
        own = st.lists(st.integers(0, most), min_size=prod(shape), max_size=prod(shape))
        costs.append(
            draw(st.integers(0, most) | own.map(lambda c, s=shape: torch.tensor(c).view(s)))
        )
    return scores, costs


def kept(masks, costs):
    return sum(kept_cost(mask, cost) for mask, cost in zip(masks, costs, strict=True))


@settings(max_examples=60)
@given(both=priced(), sparsity=st.floats(0, 1))
def test_masks_are_the_largest_that_a_sort_can_pay(both, sparsity):
    scores, costs = both
    budget = PricedWeights(scores, costs).kept(sparsity)
    flat = np.concatenate([score.flatten().numpy() for score in scores])
    prices = np.concatenate(
        [
            np.broadcast_to(cost, score.shape).ravel()
            for cost, score in zip(costs, scores, strict=True)
        ]
    )
    order = np.argsort(-flat, kind="stable")
    expected = np.zeros(len(flat), dtype=bool)
    expected[order[np.cumsum(prices[order]) <= budget]] = True
    found = torch.cat([mask.flatten() for mask in largest_masks(scores, sparsity, costs)])
    assert np.array_equal(found.numpy(), expected)


@settings(max_examples=60)
@given(
    both=priced(),
    sparsity=st.floats(0, 1),
    allocation=st.sampled_from(["global", "uniform", "erk"]),
)
def test_no_more_is_kept_than_the_budget_and_less_than_one_weight_below(both, sparsity, allocation):
    scores, costs = both
    weights = PricedWeights(scores, costs)
    masks = largest_masks(scores, sparsity, costs, allocation)
    left = weights.kept(sparsity) - kept(masks, costs)
    assert left >= 0
    if not all(mask.all() for mask in masks):
        assert left < max(weights.dearest, 1)


@settings(max_examples=40)
@given(
    both=priced(),
    cost=st.integers(1, 500),
    sparsity=st.floats(0, 1),
    allocation=st.sampled_from(["global", "uniform", "erk"]),
)
def test_equal_costs_change_nothing(both, cost, sparsity, allocation):
    """Where the sparsity is a whole number of weights: else the budget is met from below."""
    scores, _ = both
    size = sum(score.numel() for score in scores)
    whole = zeros_wanted(size, sparsity) / size
    plain = largest_masks(scores, whole, allocation=allocation)
    equal = largest_masks(scores, whole, [cost] * len(scores), allocation)
    assert all(torch.equal(one, other) for one, other in zip(plain, equal, strict=True))


@given(both=priced(most=3))
def test_sums_are_those_of_all_entries(both):
    scores, costs = both
    weights = PricedWeights(scores, costs)
    spread = [np.broadcast_to(c, s.shape) for c, s in zip(costs, scores, strict=True)]
    assert weights.total == sum(int(each.sum()) for each in spread)
    nonzero = sum(int(e[s.numpy() != 0].sum()) for e, s in zip(spread, scores, strict=True))
    assert weights.nonzero == nonzero
    assert weights.dearest == max(int(each.max()) for each in spread)
    if weights.total:
        assert weights.sparsity == pytest.approx(1 - nonzero / weights.total)


def test_equal_counts_become_a_number():
    assert compact(torch.full((2, 3), 7)) == 7
    mixed = torch.tensor([[1, 2]])
    assert compact(mixed) is mixed
