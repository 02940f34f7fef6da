"""ReDimNet2; that it equals WeSpeaker's is in test_wespeaker.py."""

import pytest
import torch

from sparsify import SparsifyError, build_model

SMALL = {"channels": 4, "out_channels": 8, "embedding_dim": 8}


def test_frames_beyond_a_multiple_of_four_are_left_out():
    model = build_model("redimnet2-b0", **SMALL).eval()
    feats = torch.randn(1, 11, 72, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model(feats), model(feats[:, :8]))
    with pytest.raises(SparsifyError, match="3 frames are too few"):
        model(feats[:, :3])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"feature_dim": 76}, "multiple of 8: 76"),
        ({"channels": 5}, "must be a multiple of 4"),
        ({"reductions": (36, 36)}, "6 numbers"),
        ({"bins": (1, 2)}, "bins must be 6 numbers"),
        ({"bins": (1, 2, 1, 5, 1, 2)}, "multiple of 20: 72"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, words):
    with pytest.raises(SparsifyError, match=words):
        build_model("redimnet2-b0", **options)
