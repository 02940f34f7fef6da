import copy

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine

from sparsify.exporters.networks import torch_network
from sparsify.exporters.parity import BATCHES, LENGTHS, check_parity


def scaled(network, factor):
    return lambda feats: np.float32(factor) * network(feats)


def averages(feats):
    """A network without weights; the constant keeps silence from having no embedding."""
    return feats.mean(axis=1) + feats.std(axis=1) + 1


def test_a_network_equals_itself(sparse_model):
    parity = check_parity(torch_network(sparse_model), torch_network(sparse_model))
    assert parity.passed
    assert parity.max_abs_error == 0
    assert parity.cosine_min == pytest.approx(1)


def test_lengths_batches_and_silence_are_tried():
    shapes, silent = set(), []

    def probe(feats):
        (silent.append(feats.shape) if not feats.any() else shapes.add(feats.shape))
        assert feats.dtype == np.float32
        return averages(feats)

    check_parity(averages, probe)
    assert shapes == {(batch, frames, 80) for batch in BATCHES for frames in LENGTHS}
    assert silent == [(1, frames, 80) for frames in LENGTHS]


def test_the_largest_differences_are_reported():
    calls = []

    def candidate(feats):
        embeddings = averages(feats)
        if feats.shape == (2, 98, 80):
            calls.append((embeddings[1].astype(np.float64), embeddings[1]))
            embeddings[1, 3] += 0.5
            embeddings[1, 7] -= 0.25
        return embeddings

    parity = check_parity(averages, candidate, tolerance=1)
    ((expected, found),) = calls
    assert parity.max_abs_error == pytest.approx(0.5, rel=1e-5)
    assert parity.cosine_min == pytest.approx(
        1 - cosine(expected, found.astype(np.float64)), abs=1e-9
    )


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("error", "passed"), [(0.9e-3, True), (1.1e-3, False)])
def test_the_tolerance_is_relative_to_the_embeddings(factor, error, passed):
    reference = scaled(averages, factor)
    parity = check_parity(reference, scaled(reference, 1 + error), tolerance=1e-3)
    assert parity.passed == passed


def test_one_changed_weight_is_found(sparse_model):
    changed = copy.deepcopy(sparse_model)
    weight = changed.layer2.se_res2block[0].conv.weight
    with torch.no_grad():
        weight.view(-1)[weight.flatten().nonzero()[5]] *= -1
    assert not check_parity(torch_network(sparse_model), torch_network(changed)).passed


def test_another_direction_of_one_small_embedding_is_found():
    def reference(feats):
        return averages(feats) * (1.0 if feats.any() else 1e-6)

    def candidate(feats):
        return reference(feats) * (1.0 if feats.any() else -1.0)

    parity = check_parity(reference, candidate)
    assert parity.cosine_min == pytest.approx(-1)
    assert not parity.passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("both", [True, False])
def test_networks_that_are_not_finite_never_pass(value, both):
    def broken(feats):
        return averages(feats) * np.float32(value)

    assert not check_parity(broken if both else averages, broken).passed


def test_embeddings_that_are_all_zero_equal_each_other_only():
    zeros = scaled(averages, 0)
    assert check_parity(zeros, zeros).passed
    assert not check_parity(zeros, scaled(averages, 1e-6)).passed
    assert not check_parity(averages, zeros).passed
