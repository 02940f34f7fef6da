"""CAM++; that it equals WeSpeaker's is in test_wespeaker.py."""

import pytest
import torch

from sparsify import SparsifyError, build_model
from sparsify.models.campplus import segment_means


@pytest.mark.parametrize("frames", [1, 99, 100, 101, 257])
def test_a_segment_has_the_mean_of_its_frames(frames):
    x = torch.randn(2, 3, frames, generator=torch.Generator().manual_seed(frames))
    means = segment_means(x)
    assert means.shape == x.shape
    for frame in range(frames):
        begin = frame // 100 * 100
        expected = x[:, :, begin : begin + 100].mean(dim=2)
        torch.testing.assert_close(means[:, :, frame], expected)


def test_its_size_is_wespeakers():
    with torch.device("meta"):
        assert sum(p.numel() for p in build_model("campplus").parameters()) == 7_176_224


@pytest.mark.parametrize("options", [{"feature_dim": 20}, {"bottleneck_channels": 1}])
def test_sizes_that_do_not_fit_are_refused(options):
    with pytest.raises(SparsifyError, match=next(iter(options))):
        build_model("campplus", **options)
