"""Masks and initialisation against torch.nn.utils.prune and the laws of sampling."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from torch.nn.utils import prune

from sparsify.sparsity.costs import zeros_wanted
from sparsify.sparsity.masks import initialise_sparse, largest_in_each, largest_masks


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.75, 0.99, 1.0])
def test_largest_masks_equal_torch_pruning(sparsity):
    torch.manual_seed(0)
    layers = [nn.Linear(20, 30), nn.Conv1d(4, 6, 5)]
    masks = largest_masks([layer.weight.detach().abs() for layer in layers], sparsity)
    prune.global_unstructured(
        [(layer, "weight") for layer in layers], prune.L1Unstructured, amount=sparsity
    )
    for layer, mask in zip(layers, masks, strict=True):
        assert torch.equal(mask, layer.weight_mask.bool())


@given(
    scores=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    split=st.integers(0, 60),
    sparsity=st.floats(0, 1),
)
def test_count_is_exact_under_ties_and_order_respected(scores, split, sparsity):
    values = torch.tensor(scores, dtype=torch.float32)
    parts = [part for part in torch.tensor_split(values, [min(split, len(scores))]) if len(part)]
    mask = torch.cat(largest_masks(parts, sparsity))
    assert int((~mask).sum()) == zeros_wanted(len(scores), sparsity)
    if mask.any() and not mask.all():
        assert values[mask].min() >= values[~mask].max()


def test_sparse_initialisation_keeps_the_output_variance():
    torch.manual_seed(0)
    weight = torch.randn(400, 500)
    x = torch.randn(500, 200)
    dense = (weight @ x).var()
    initialise_sparse([weight], 0.99, seed=3)
    assert int(torch.count_nonzero(weight)) == 2000
    assert (weight @ x).var() / dense == pytest.approx(1, abs=0.1)


def test_sparse_initialisation_depends_on_the_seed_and_spares_one():
    first, again, other = (torch.ones(50, 50) for _ in range(3))
    initialise_sparse([first], 0.9, seed=1)
    initialise_sparse([again], 0.9, seed=1)
    initialise_sparse([other], 0.9, seed=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    tiny = torch.ones(3)
    initialise_sparse([tiny, torch.ones(0, 4)], 0.99, seed=0)
    assert int(torch.count_nonzero(tiny)) == 1


def test_sparse_initialisation_shares_out_by_erk():
    torch.manual_seed(0)
    small, large = torch.randn(40, 10, 3), torch.randn(400, 500)
    signal = torch.randn(500, 200)
    dense = (large @ signal).var()
    initialise_sparse([small, large], 0.95, seed=0, allocation="erk")
    kept = [int(torch.count_nonzero(weight)) for weight in (small, large)]
    assert sum(kept) == 10_060  # 5 % of 201,200
    assert kept[1] / kept[0] == pytest.approx((400 + 500) / (40 + 10 + 3), rel=0.01)
    assert (large @ signal).var() / dense == pytest.approx(1, abs=0.1)


@given(st.data())
def test_largest_in_each_keeps_so_many_of_the_largest(data):
    sizes = data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    counts = [data.draw(st.integers(0, size)) for size in sizes]
    scores = [
        torch.tensor(data.draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size)))
        for size in sizes
    ]
    for score, mask, count in zip(scores, largest_in_each(scores, counts), counts, strict=True):
        assert int(mask.sum()) == count
        assert torch.equal(score[mask].sort().values, score.sort().values[len(score) - count :])


@pytest.mark.parametrize("keep_layers", [True, False])
def test_the_order_in_memory_makes_no_difference(keep_layers):
    torch.manual_seed(0)
    scores = [torch.rand(8, 6, 3, 3), torch.rand(7, 5)]
    others = [scores[0].to(memory_format=torch.channels_last), scores[1].t().contiguous().t()]
    assert not any(other.is_contiguous() for other in others)
    expected = largest_masks(scores, 0.9, keep_layers=keep_layers)
    for mask, other in zip(
        expected, largest_masks(others, 0.9, keep_layers=keep_layers), strict=True
    ):
        assert torch.equal(mask, other)


@given(
    st.lists(arrays(np.float32, st.integers(1, 9), elements=st.floats(0, 1, width=32)), min_size=1),
    st.floats(0, 1),
)
def test_every_tensor_keeps_its_largest_where_there_is_room(parts, sparsity):
    scores = [torch.from_numpy(part) for part in parts]
    masks = largest_masks(scores, sparsity, keep_layers=True)
    size = sum(map(len, scores))
    kept = size - zeros_wanted(size, sparsity)
    assert sum(int(mask.sum()) for mask in masks) == kept
    if kept >= len(scores):
        assert all(
            score[mask].max() == score.max() for score, mask in zip(scores, masks, strict=True)
        )
    others = largest_masks(scores, sparsity)
    if all(mask.any() for mask in others):
        assert all(torch.equal(a, b) for a, b in zip(masks, others, strict=True))
