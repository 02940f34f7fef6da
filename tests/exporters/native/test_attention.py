"""Attention against PyTorch's: every frame, of many sizes at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._sympy.functions import FloorDiv

from sparsify.exporters.native.attention import attend, products

from .machines import EXACT
from .running import Building, T, all_frames

_aten = torch.ops.aten
# Heads, their width, that of the values, and how many frames there are for each key.
SIZES = [(1, 1, 1, 1), (2, 3, 5, 1), (4, 5, 6, 1), (1, 9, 4, 1), (3, 4, 13, 2)]
KEYS, VALUES, BINS = 20, 40, 80
SCALE = 0.3


@pytest.fixture(scope="module")
def blob():
    building = Building(BINS)
    return building.program([_attended(building, *sizes) for sizes in SIZES]).blob


def _attended(building, heads, width, value_width, stride):
    def part(size, first, stride=1):
        """`(1, heads, T / stride, size)`."""
        x = building.call(_aten.slice.Tensor, building.feats, 2, first, first + heads * size)
        length = T if stride == 1 else FloorDiv(T - 1, stride) + 1
        shape = (1, length, heads * size)
        x = building.call(_aten.slice.Tensor, x, 1, 0, None, stride, shape=shape)
        x = building.call(_aten.view.default, x, (), shape=(1, length, heads, size))
        return building.call(_aten.permute.default, x, [0, 2, 1, 3])

    keys = building.call(_aten.permute.default, part(width, KEYS, stride), [0, 1, 3, 2])
    scores = replace(products(part(width, 0), keys), scale=SCALE, shared=True)
    return attend(building, scores, part(value_width, VALUES, stride))


def _expected(feats, heads, width, value_width, stride):
    def part(size, first, stride=1):
        return feats[::stride, first : first + heads * size].unflatten(1, (heads, size))

    parts = part(width, 0), part(width, KEYS, stride), part(value_width, VALUES, stride)
    parts = (each.double().transpose(0, 1) for each in parts)
    return F.scaled_dot_product_attention(*parts, scale=SCALE).mT.flatten(0, 1)


@pytest.mark.parametrize("loudness", [1, 8])  # shares of many frames, and of few
def test_frames_attend_as_in_pytorch(engine, blob, loudness):
    generator = torch.Generator().manual_seed(0)
    rows = sum(heads * value_width for heads, _, value_width, _ in SIZES)
    for frames in (1, 3, 8, 9, 63, 64, 65, 72, 129, 200):
        feats = loudness * torch.randn(frames, BINS, generator=generator)
        found = all_frames(engine, blob, feats.numpy(), [frames] * rows)
        expected = torch.cat([_expected(feats, *sizes) for sizes in SIZES])
        # The products are as loud as this, squared, and their rounding is that of the exponents.
        np.testing.assert_allclose(
            np.stack(found), expected, rtol=0, atol=EXACT * loudness**2, err_msg=str(frames)
        )


def test_what_is_no_number_reaches_every_frame(engine, blob):
    feats = torch.randn(70, BINS, generator=torch.Generator().manual_seed(0))
    feats[66, KEYS] = torch.nan  # a key of the first heads
    found = all_frames(engine, blob, feats.numpy(), [70] * (1 + 10 + 24 + 4 + 39))
    expected = torch.cat([_expected(feats, *sizes) for sizes in SIZES])
    np.testing.assert_array_equal(np.isnan(np.stack(found)), expected.isnan())
