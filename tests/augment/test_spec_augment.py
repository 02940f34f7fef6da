"""Masks over features."""

import numpy as np
import pytest
import torch

from sparsify.augment.spec_augment import spec_augment
from sparsify.recipe.sections import SpecAugmentSection

FEATS = torch.rand(400, 60, 40) + 1


def masked(probability=1.0, places=range(400), step=5, **section):
    section = SpecAugmentSection(probability=probability, **section)
    return spec_augment(FEATS[: len(places)], section, 0, step, places)


def test_masks_are_stretches_of_at_most_the_given_length():
    zeros = (masked() == 0).numpy()
    lengths = []
    for crop in zeros:
        time, frequency = crop.all(1), crop.all(0)
        assert np.array_equal(crop, time[:, None] | frequency[None])
        for mask in (time, frequency):
            assert np.count_nonzero(np.diff(mask.astype(int)) == 1) + mask[0] <= 1  # in one piece
        lengths.append((time.sum(), frequency.sum()))
    assert np.max(lengths, axis=0).tolist() == [10, 8]
    assert np.min(lengths, axis=0).tolist() == [0, 0]
    assert np.mean(lengths, axis=0) == pytest.approx([5, 4], abs=0.5)


def test_what_is_not_masked_stays():
    result = masked()
    kept = result != 0
    assert torch.equal(result[kept], FEATS[kept])


def test_probability_is_the_share_of_masked_crops():
    share = (masked(0.6, time_frames=60, time_masks=5) == 0).any(2).any(1).float().mean()
    assert share == pytest.approx(0.6, abs=0.06)
    assert masked(0.0) is not None
    assert torch.equal(masked(0.0), FEATS)


def test_a_mask_depends_on_step_and_place_alone():
    whole, part = masked(), masked(places=range(100, 150))
    assert torch.equal(whole[100:150] == 0, part == 0)
    assert not torch.equal(whole == 0, masked(step=6) == 0)


def test_masks_longer_than_the_features_fit():
    assert masked(time_frames=1000, frequency_bins=1000).shape == FEATS.shape
