"""Pruning layers one at a time, on a network whose layers are known to matter or not."""

import numpy as np
import pytest
import torch
from torch import nn

from sparsify.errors import SparsifyError
from sparsify.sparsity.selection import Selection
from sparsify.verification.sensitivity import layer_sensitivity, sample_trials
from sparsify.verification.trials import Trials, make_trials


class HandMade(nn.Module):
    """`used` passes the features on, `idle` adds nothing, `coarse` has one weight that matters."""

    def __init__(self, dim=8):
        super().__init__()
        self.used = nn.Linear(dim, dim, bias=False)
        self.idle = nn.Linear(dim, dim, bias=False)
        self.coarse = nn.Linear(dim, dim, bias=False)
        with torch.no_grad():
            self.used.weight.copy_(torch.eye(dim))
            self.used.weight[0, 0] = 10  # pruned last
            self.idle.weight.fill_(0.1)
            self.coarse.weight.copy_(torch.eye(dim) + 1e-9)

    def forward(self, feats):
        mean = feats.mean(dim=1)
        return self.coarse(self.used(mean)) + 0 * self.idle(mean)


@pytest.fixture(scope="module")
def speech():
    """Four speakers, told apart by which of the features is large."""
    rng = np.random.default_rng(0)
    speakers = [number % 4 for number in range(16)]
    features = []
    for speaker in speakers:
        feats = rng.normal(0, 0.02, (5, 8)).astype(np.float32)
        feats[:, 4 + speaker] += 1
        features.append(feats)
    return features, make_trials([str(number) for number in range(16)], speakers, 0)


def test_finds_the_layers_that_matter(speech):
    network = HandMade()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    result = layer_sensitivity(network, *speech, levels=(0.5, 0.875, 0.98))
    assert result.eer_percent == 0
    assert (result.utterances, result.trials) == (16, len(speech[1]))
    layers = {layer.name: layer for layer in result.layers}
    assert list(layers) == ["used.weight", "idle.weight", "coarse.weight"]
    for probe in layers["idle.weight"].probes:
        assert probe.eer_percent == 0
        assert probe.cosine == pytest.approx(1)
    # 56 of 64 weights are zero already; only beyond that is anything lost.
    mild, same, hard = layers["used.weight"].probes
    assert (mild.sparsity, mild.eer_percent, mild.cosine) == (0.875, 0, 1)
    assert (same.sparsity, same.eer_percent, same.cosine) == (0.875, 0, 1)
    assert hard.sparsity == 63 / 64
    assert hard.eer_percent > 10
    assert hard.cosine < 0.5
    # Here the small weights go first, which is no loss.
    tiny, *_, last = layers["coarse.weight"].probes
    assert tiny.sparsity == 0.5
    assert tiny.cosine == pytest.approx(1)
    assert last.eer_percent > 10
    assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())


def test_protected_layers_are_left_out(speech):
    result = layer_sensitivity(
        HandMade(), *speech, levels=(0.5,), selection=Selection(["used.*", "idle.*"])
    )
    assert [layer.name for layer in result.layers] == ["coarse.weight"]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5])
def test_levels_must_be_shares(speech, level):
    with pytest.raises(SparsifyError, match="between 0 and 1"):
        layer_sensitivity(HandMade(), *speech, levels=(level,))


def test_a_sample_keeps_the_trials_among_its_utterances(speech):
    trials = speech[1]
    sample = sample_trials(trials, 8)
    assert 7 <= len(sample.utterances) <= 8
    names = np.array(sample.utterances)
    kept = set(zip(names[sample.enrolment], names[sample.test], sample.targets, strict=True))
    everything = np.array(trials.utterances)
    expected = {
        (one, other, target)
        for one, other, target in zip(
            everything[trials.enrolment], everything[trials.test], trials.targets, strict=True
        )
        if {one, other} <= set(sample.utterances)
    }
    assert kept == expected
    assert sample_trials(trials, 8).utterances == sample.utterances
    assert sample_trials(trials, 99) is trials
    assert isinstance(sample, Trials)


def test_a_sample_of_a_long_list_has_trials_of_both_kinds():
    """As many utterances and trials as VoxCeleb1-H has; two hundred at random would share none."""
    rng = np.random.default_rng(0)
    names = tuple(str(number) for number in range(137_924))
    enrolment, test = rng.integers(0, len(names), (2, 550_894))
    sample = sample_trials(Trials(names, enrolment, test, rng.random(550_894) < 0.5), 200)
    assert 199 <= len(sample.utterances) <= 200
    assert len(sample) >= 100
    assert 0.4 < sample.targets.mean() < 0.6
