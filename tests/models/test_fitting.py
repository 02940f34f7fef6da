"""State dicts and the networks that they are meant for."""

import logging

import torch
import yaml

from sparsify.models.fitting import misfits, named_as, proposal
from sparsify.models.registry import Architecture

NETWORK = {
    "a.weight": torch.ones(2, 3),
    "a.bias": torch.ones(2),
    "n.num_batches_tracked": torch.ones(()),
}


def test_what_stands_before_all_names_is_taken_off(caplog):
    given = {f"encoder.net.{name}": tensor for name, tensor in NETWORK.items()}
    assert named_as(given, NETWORK) == NETWORK
    assert named_as(NETWORK, NETWORK) == NETWORK
    with caplog.at_level(logging.WARNING):
        assert named_as(given | {"loss.W": torch.ones(4, 4)}, NETWORK) == NETWORK
    assert "of 4 tensors the network 'encoder.net' is taken, without 'loss.W'" in caplog.text
    other = {"x.a.weight": torch.ones(2, 3)}
    assert named_as(other, NETWORK) == other


def test_three_ways_not_to_fit_are_three_sentences():
    assert misfits(NETWORK, NETWORK) == []
    state = {"a.weight": torch.ones(4, 3), "b.weight": torch.ones(1)}
    assert misfits(state, NETWORK) == [
        "it lacks 'a.bias'",
        "the network has no 'b.weight'",
        "'a.weight' is (4, 3) and should be (2, 3)",
    ]
    assert len(misfits(state, NETWORK, graph=True)) == 2


def test_what_fits_another_network_is_proposed():
    options = {"channels": 8, "pooling": "attentive"}
    state = Architecture("resnet34", options).outline().state_dict()
    said = proposal(state)
    assert said == proposal({f"net.{name}": tensor for name, tensor in state.items()} | NETWORK)
    name, _, given = said.partition("model.options=")
    assert name.startswith("it looks like a resnet34: --model resnet34 --set")
    assert yaml.safe_load(given.removesuffix("'")) == options | {"embedding_dim": 256}
    assert proposal(NETWORK) == ""
