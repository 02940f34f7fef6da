"""Masks over the features of training crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparsify.recipe.sections import SpecAugmentSection

# A tag that keeps these random streams apart from those of the crops.
_MASKS = 3


def spec_augment(
    feats: Tensor, section: SpecAugmentSection, seed: int, step: int, places: Sequence[int]
) -> Tensor:
    """Sets stretches of time and bands of frequency to 0, the mean of features that have none.

    Args:
        feats: `(B, T, F)`, with the mean subtracted.
        section: How many masks, how large, and how often.
        seed: Seed of the run.
        step: Step of the training.
        places: For each of the B, its place in the batch of the step.

    Returns:
        `(B, T, F)`.
    """
    if section.probability == 0:
        return feats
    _, frames, bins = feats.shape
    keep_frames = np.ones((len(places), frames, 1), dtype=bool)
    keep_bins = np.ones((len(places), 1, bins), dtype=bool)
    for row, place in enumerate(places):
        rng = np.random.default_rng([seed, _MASKS, step, place])
        if rng.random() < section.probability:
            for _ in range(section.time_masks):
                keep_frames[row, _stretch(rng, section.time_frames, frames)] = False
            for _ in range(section.frequency_masks):
                keep_bins[row, :, _stretch(rng, section.frequency_bins, bins)] = False
    kept = torch.from_numpy(keep_frames) & torch.from_numpy(keep_bins)
    return feats * kept.to(feats.device, non_blocking=True)


def _stretch(rng: np.random.Generator, longest: int, size: int) -> slice:
    """0 to `longest` neighbours out of `size`."""
    length = int(rng.integers(min(longest, size) + 1))
    start = int(rng.integers(size - length + 1))
    return slice(start, start + length)
