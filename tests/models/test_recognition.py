"""Architectures by the shapes of their tensors."""

import pytest
import torch

from sparsify.models.recognition import recognised
from sparsify.models.registry import Architecture

SMALL = {
    "ecapa-tdnn": {"channels": 16, "aggregation_channels": 24, "se_channels": 8, "feature_dim": 40},
    "resnet18": {"channels": 4, "pooling": "attentive"},
    "resnet34": {"channels": 8},
    "resnet50": {"channels": 4, "embedding_dim": 16},
    "resnet101": {"channels": 4},
    "campplus": {
        "channels": 32,
        "growth_channels": 8,
        "bottleneck_channels": 16,
        "head_channels": 4,
        "feature_dim": 40,
    },
    "redimnet2-b0": {"channels": 4, "out_channels": 8},
    "redimnet2-b2": {"channels": 4, "reductions": [36] * 6},
    "redimnet2-b4": {"channels": 4},
    "redimnet2-b5": {"channels": 8, "out_channels": 8, "reductions": [48] * 4 + [36] * 2},
    "redimnet2-b6": {"channels": 8, "out_channels": 8, "reductions": [48] * 4 + [36] * 2},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_network_is_known_again(name):
    made = Architecture(name, SMALL[name]).outline()
    found = recognised(made.state_dict())
    assert found is not None
    again = found.outline().state_dict()
    assert {n: t.shape for n, t in again.items()} == {
        n: t.shape for n, t in made.state_dict().items()
    }
    family = name.partition("-")[0]
    assert found.name.startswith(family)
    assert found.options["channels"] == SMALL[name]["channels"]


def test_other_tensors_are_of_no_architecture():
    state = Architecture("resnet34", {"channels": 8}).outline().state_dict()
    assert recognised({}) is None
    assert recognised({"fc.weight": torch.ones(2, 3)}) is None
    assert recognised(state | {"extra.weight": torch.ones(2)}) is None
    del state["layer4.2.bn2.weight"]
    assert recognised(state) is None
