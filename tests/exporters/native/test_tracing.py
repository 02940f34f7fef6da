"""A network that was traced once serves all weights."""

import torch
from torch import nn

from sparsify.exporters.native.tracing import trace


class Normed(nn.Module):
    """A tied weight, statistics, and a constant that is no part of the network."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Conv1d(8, 6, 3), nn.Conv1d(8, 6, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(6)
        self.norm.running_mean.normal_()

    def forward(self, feats):
        x = feats.transpose(1, 2)
        return (self.norm(self.first(x)) + self.second(x) * torch.tensor(2.0)).mean(2)


def test_another_networks_weights_take_the_place_of_the_first_ones():
    networks = [Normed(seed) for seed in (0, 1)]
    known, fresh = (trace(network, 8, "net") for network in networks)
    reused = known.of(networks[1])
    assert [str(node) for node in reused.graph.nodes] == [str(node) for node in fresh.graph.nodes]
    assert reused.constants.keys() == fresh.constants.keys()
    for name, tensor in fresh.constants.items():
        assert torch.equal(reused.constants[name], tensor)
    assert any(not torch.equal(known.constants[n], t) for n, t in fresh.constants.items())
