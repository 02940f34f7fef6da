import numpy as np
import pytest
import torch

from sparsify.artifact.levels import from_levels, to_levels


@pytest.fixture
def weight():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 5, 3, generator=generator) * torch.logspace(-6, 3, 6)[:, None, None]
    weight[:, ::2] = 0
    weight[3] = 0
    return weight


@pytest.mark.parametrize("most", [7, 127])
def test_levels_are_the_nearest(weight, most):
    scales, levels = to_levels(weight, most)
    found = from_levels(scales, levels).numpy()
    expected = weight.reshape(6, -1).numpy()
    largest = np.abs(expected).max(axis=1)
    np.testing.assert_allclose(scales.numpy(), largest / most, rtol=2.0**-8)
    assert np.abs(levels.numpy()).max(axis=1).tolist() == [most, most, most, 0, most, most]
    limit = 0.5 * scales.numpy() + 2.0**-8 * largest
    assert (np.abs(found - expected) <= limit[:, None]).all()
    assert (found[expected == 0].view(np.int32) == 0).all()


@pytest.mark.parametrize("most", [7, 127])
def test_weights_made_of_levels_give_them_again(weight, most):
    scales, levels = to_levels(weight, most)
    again = to_levels(from_levels(scales, levels), most)
    assert torch.equal(again[0], scales)
    assert torch.equal(again[1], levels)
