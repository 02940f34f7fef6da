import numpy as np
import pytest
import torch

from sparsify.errors import SparsifyError
from sparsify.exporters.networks import torch_network


def test_threads_are_set_during_the_call_only():
    seen = []

    class Probe(torch.nn.Module):
        def forward(self, feats):
            seen.append((torch.get_num_threads(), self.training))
            return feats.mean(1)

    before = torch.get_num_threads()
    feats = np.zeros((1, 2, 3), dtype=np.float32)
    torch_network(Probe(), before + 1)(feats)
    assert torch.get_num_threads() == before
    torch_network(Probe())(feats)
    assert seen == [(before + 1, False), (before, False)]


def test_features_that_a_network_does_not_take_are_one_sentence(sparse_model):
    with pytest.raises(SparsifyError, match=r"'ecapa-tdnn' does not accept .*\(1, 20, 8\)"):
        torch_network(sparse_model)(np.zeros((1, 20, 8), dtype=np.float32))
