"""Weights as a few levels: whole numbers times a scale for each output channel."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = {4: 7, 8: 127}
"""The largest level by the bits of a level; they are symmetric, so that zero stays zero."""


def to_levels(weight: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The nearest levels of a weight.

    A scale is the channel's largest weight by the largest level, in the eight digits of bfloat16.
    The largest weight keeps the largest level, so that a weight made of levels gives them again.

    Args:
        weight: A finite weight `(C, ...)` of at least one element, float32.
        most: The largest level.

    Returns:
        Scales `(C,)`, float32, and levels `(C, N)`, int8, where each channel has `N` weights.
    """
    channels = weight.reshape(len(weight), -1)
    scales = (channels.abs().amax(dim=1) / most).bfloat16().float()
    levels = (channels / scales[:, None]).round().clamp(-most, most)
    return scales, torch.where(scales[:, None] > 0, levels, 0).to(torch.int8)


def from_levels(scales: Tensor, levels: Tensor) -> Tensor:
    """The weights `(C, N)`: each the product of two float32 numbers."""
    return levels.float() * scales[:, None]
