"""CAM++; that it equals WeSpeaker's is in test_wespeaker.py."""

import pytest
import torch
from torch.nn import functional as F

from sparsify import SparsifyError, build_model
from sparsify.models.campplus import segment_means


@pytest.mark.parametrize("frames", [1, 99, 100, 101, 257])
def test_segments_are_pooled_as_by_torch(frames):
    x = torch.randn(2, 3, frames, generator=torch.Generator().manual_seed(frames))
    pooled = F.avg_pool1d(x, 100, 100, ceil_mode=True).repeat_interleave(100, dim=2)
    torch.testing.assert_close(segment_means(x), pooled[:, :, :frames])


def test_its_size_is_wespeakers():
    with torch.device("meta"):
        assert sum(p.numel() for p in build_model("campplus").parameters()) == 7_176_224


@pytest.mark.parametrize("options", [{"feature_dim": 20}, {"bottleneck_channels": 1}])
def test_sizes_that_do_not_fit_are_refused(options):
    with pytest.raises(SparsifyError, match=next(iter(options))):
        build_model("campplus", **options)
