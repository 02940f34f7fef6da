"""Networks that tell no speakers apart, made so by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from sparsify.models.registry import build_model
from sparsify.training.collapse import collapse_of
from sparsify.training.validation_speech import ValidationSpeech
from sparsify.verification.trials import make_trials

NAMES = [f"{speaker}/{number}" for speaker in range(4) for number in range(6)]
TRIALS = make_trials(NAMES, [name[0] for name in NAMES], seed=0)


def collapse(network, eer_percent=30.0, trials=TRIALS):
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(50 + i, 80)).astype(np.float32) for i in range(len(NAMES))]
    speech = ValidationSpeech(features, [], trials)
    return collapse_of(network, speech, {"eer_percent": eer_percent}, torch.device("cpu"))


def small():
    torch.manual_seed(0)
    return build_model("ecapa-tdnn", channels=16, aggregation_channels=32, embedding_dim=16)


def test_a_living_network_has_not_collapsed():
    assert collapse(small()) is None
    assert collapse(small(), 49.9) is None
    assert "50.00% is that of chance" in collapse(small(), 50.0)
    few = make_trials(NAMES[:6] + NAMES[6:8], ["0"] * 6 + ["1"] * 2, seed=0, max_targets=9)
    assert collapse(small(), 50.0, few) is None


@pytest.mark.parametrize("dead", ["layer1.conv", "conv", "linear"])
def test_the_layer_that_nothing_passes_is_named(dead):
    network = small()
    with torch.no_grad():
        network.get_submodule(dead).weight.zero_()
    sentence = collapse(network)
    assert "the same embedding" in sentence
    assert f"model.ignore=[{dead}.*]" in sentence


def test_a_dead_branch_beside_a_living_one_is_no_collapse():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.living, self.dead = nn.Linear(80, 4), nn.Linear(80, 4)
            nn.init.zeros_(self.dead.weight)

        def forward(self, feats):
            return (self.living(feats) + self.dead(feats)).mean(dim=1)

    assert collapse(Branches()) is None


def test_units_that_are_never_active_are_laid_to_the_weights_before_them():
    network = nn.Sequential(nn.Linear(80, 4), nn.ReLU(), nn.Linear(4, 4))
    nn.init.constant_(network[0].bias, -1e6)
    assert "nothing passes 0.0:" in collapse(nn.Sequential(network, nn.Flatten(1)))


def test_layers_that_give_no_numbers_are_passed_over():
    class Found(nn.Module):
        def forward(self, x):
            return x > 0

    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x)

    class Nothing(nn.Module):
        def forward(self, x):
            return x[:, :0]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(80, 4)
            self.others = nn.ModuleList([Found(), Spectrum(), Nothing()])

        def forward(self, feats):
            x = self.layer(feats).mean(dim=1)
            return x + sum(other(x).abs().sum() for other in self.others[1:]) * self.others[0](x)

    assert collapse(Network()) is None
