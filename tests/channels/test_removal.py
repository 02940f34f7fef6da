"""Networks without dead channels embed as before."""

import pytest
import torch
from torch import nn

from sparsify.channels.removal import removal_from
from sparsify.channels.tape import record
from sparsify.channels.walk import structure_of
from sparsify.models.registry import Architecture, build_model

BINS = 16
NETWORKS = {
    "ecapa": ("ecapa-tdnn", {"channels": 16, "aggregation_channels": 24}),
    "speechbrain": (
        "ecapa-tdnn",
        {"channels": 16, "aggregation_channels": 24, "variant": "speechbrain"},
    ),
    "without context": (
        "ecapa-tdnn",
        {"channels": 16, "aggregation_channels": 24, "global_context": False},
    ),
    "basic blocks": ("resnet18", {"channels": 4}),
    "bottlenecks": ("resnet50", {"channels": 2, "pooling": "attentive"}),
    "campplus": ("campplus", {"channels": 8, "growth_channels": 4, "bottleneck_channels": 8}),
    "redimnet2": ("redimnet2-b0", {"channels": 4, "out_channels": 8, "reductions": [8] * 6}),
}


def randomise(model, generator):
    """Random weights and norms, whose statistics are those of the network's activations."""
    for name, tensor in model.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point():
            fan_in = tensor[0].numel() if tensor.dim() > 1 else 10
            tensor.normal_(0, fan_in**-0.5, generator=generator)
    for module in model.modules():
        module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(8, 60, BINS, generator=generator))
    model.eval()


def kill(model, share, generator):
    """Zeroes a random share of the channels, with bias and norm."""
    structure = structure_of(*record(model, BINS, "network"), model)
    roots, state = structure.atoms.roots(), model.state_dict()
    dead = torch.rand(len(roots), generator=generator) < share
    dead[list(structure.atoms.fixed)] = False
    for (name, axis), ids in structure.axes.items():
        if axis == 0 and name.endswith((".weight", ".bias")):
            state[name][dead[roots[ids]]] = 0


def network(key, share, seed=0):
    name, options = NETWORKS[key]
    generator = torch.Generator().manual_seed(seed)
    model = build_model(name, feature_dim=BINS, embedding_dim=12, **options).eval()
    randomise(model, generator)
    kill(model, share, generator)
    return model


def parameters(model):
    return sum(each.numel() for each in model.parameters())


def without_dead_channels(model, widths=None):
    name = type(model).__name__
    return (found := removal_from(model, BINS, name, widths or {})), found.applied(model, name)


def assert_same(smaller, model):
    feats = 3 * torch.randn(3, 70, BINS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = model(feats), smaller(feats)
    assert expected.std(0).max() > 1e-3  # embeddings of different speech differ
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("key", NETWORKS)
@pytest.mark.parametrize("share", [0.15, 0.6])
def test_embeddings_stay_and_the_network_becomes_smaller(key, share):
    model = network(key, share)
    found, smaller = without_dead_channels(model)
    assert_same(smaller, model)
    kept = 3 if key == "redimnet2" else 2  # attention and convolutions in groups stay there
    assert parameters(smaller) < (1 - share / kept) * parameters(model)
    again = Architecture(*NETWORKS[key][:1], model.architecture.options, found.widths).build()
    again.load_state_dict(smaller.state_dict())
    assert_same(again.eval(), model)


@pytest.mark.parametrize("key", ["ecapa", "basic blocks"])
def test_what_is_smaller_already_becomes_smaller_again(key):
    model = network(key, 0.3)
    found, smaller = without_dead_channels(model)
    kill(smaller, 0.3, torch.Generator().manual_seed(2))
    again, smallest = without_dead_channels(smaller, found.widths)
    assert_same(smallest, smaller)
    assert parameters(smallest) < 0.9 * parameters(smaller)
    built = Architecture(*NETWORKS[key][:1], model.architecture.options, again.widths).build()
    built.load_state_dict(smallest.state_dict())
    assert_same(built.eval(), smaller)


def test_nothing_goes_that_lives():
    found, _ = without_dead_channels(network("ecapa", 0))
    assert not found.kept
    assert not found.widths


def test_a_channel_that_its_norm_shifts_stays():
    model = network("ecapa", 0)
    with torch.no_grad():
        model.layer2.se_res2block[0].conv.weight[3] = 0
        model.layer2.se_res2block[0].conv.bias[3] = 0
    found, _ = without_dead_channels(model)
    assert not found.kept  # it still emits what the norm adds, except where frames are padded


def test_nobody_who_reads_a_channel_means_it_goes():
    model = network("ecapa", 0)
    with torch.no_grad():
        model.layer2.se_res2block[2].conv.weight[:, 15] = 0  # of the group that passes untouched
    _, smaller = without_dead_channels(model)
    assert_same(smaller, model)
    assert smaller.layer2.se_res2block[0].conv.out_channels == 15


class Mixing(nn.Module):
    """A network of a user's: a split by numbers, or a norm over channels."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed
        self.first = nn.Conv1d(BINS, 8, 3)
        self.norm = nn.Identity() if fixed else nn.GroupNorm(2, 8)
        self.second = nn.Conv1d(8, 8, 3, groups=8)
        self.last = nn.Linear(8, 6)

    def forward(self, feats):
        x = self.norm(self.first(feats.transpose(1, 2)).relu_())
        x = self.second(x).relu()
        if self.fixed:
            x = x.view(len(x), 4, 2, -1).flatten(1, 2)
        return self.last(x.mean(2))


def test_a_norm_over_channels_keeps_them_and_is_named():
    model = Mixing(fixed=False).eval()
    kill(model, 0, torch.Generator())
    with torch.no_grad():
        for layer in (model.first, model.second):
            layer.weight[2:4] = 0
            layer.bias[2:4] = 0
    found = removal_from(model, BINS, "mixing", {})
    assert found.stuck == {"'native_group_norm' in 'norm'": {"first": 2}}


def test_depthwise_convolutions_are_followed():
    model = Mixing(fixed=True).eval()
    model.norm = nn.BatchNorm1d(8).eval()
    model.fixed = False
    with torch.no_grad():
        for layer in (model.first, model.second):
            layer.weight[2:4] = 0
            layer.bias[2:4] = 0
        model.norm.bias[2:4] = 0
        model.norm.weight[2:4] = 0
    found = removal_from(model, BINS, "network", {})
    smaller = found.applied(model, "network")
    assert smaller.second.groups == smaller.norm.num_features == 6
    assert_same(smaller, model)


class Frames(nn.Module):
    """Convolutions over the frames of features."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, feats):
        return self.layers(feats.transpose(1, 2)).mean(2)


@pytest.mark.parametrize("kernel", [65, 200])
def test_a_network_that_needs_long_utterances_is_followed(kernel):
    model = Frames(nn.Conv1d(BINS, 6, kernel), nn.ReLU(), nn.Conv1d(6, 5, 1)).eval()
    with torch.no_grad():
        model.layers[0].weight[2:4] = 0
        model.layers[0].bias[2:4] = 0
    smaller = removal_from(model, BINS, "network", {}).applied(model, "network")
    assert len(smaller.layers[0].weight) == 4
    feats = torch.randn(2, 300, BINS)
    torch.testing.assert_close(smaller(feats), model(feats))


def test_a_network_without_channels_of_its_own_stays():
    model = Frames(nn.Conv1d(BINS, BINS, 3, groups=BINS)).eval()
    assert not removal_from(model, BINS, "network", {}).kept


def test_what_two_layers_share_keeps_its_channels():
    model = Barrier("none").eval()
    model.extra = nn.Conv1d(8, 8, 1)
    model.extra.weight = model.third.weight
    with torch.no_grad():
        for layer in (model.first, model.second, model.third):
            layer.weight[2:4] = 0
            layer.bias[2:4] = 0
    found = removal_from(model, BINS, "network", {})
    smaller = found.applied(model, "network")
    assert_same(smaller, model)
    channels = [len(each.weight) for each in (smaller.first, smaller.second, smaller.third)]
    assert channels == [6, 8, 8]
    (what,) = found.stuck
    assert what == "what 'third.weight' and 'extra.weight' share"


class Barrier(nn.Module):
    """Convolutions on both sides of something that is not followed."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first = nn.Conv1d(BINS, 8, 3)
        self.second = nn.Conv1d(8, 8, 3)
        self.third = nn.Conv1d(8, 8, 1)
        self.last = nn.Linear(8, 6)
        layers = {
            "LSTM": lambda: nn.LSTM(8, 4, batch_first=True, bidirectional=True),
            "GRU": lambda: nn.GRU(8, 8, batch_first=True),
            "RNN": lambda: nn.RNN(8, 8, batch_first=True),
            "MultiheadAttention": lambda: nn.MultiheadAttention(8, 2, batch_first=True),
            "embedding": lambda: nn.Embedding(4, 8),
        }
        self.layer = layers.get(kind, nn.Identity)()
        self.scale = nn.Parameter(torch.ones(8, 1))

    def forward(self, feats):
        x = self.second(self.first(feats.transpose(1, 2)).relu()).relu()
        frames = x.transpose(1, 2)
        match self.kind:
            case "LSTM" | "GRU" | "RNN":
                x = self.layer(frames)[0].transpose(1, 2)
            case "MultiheadAttention":
                x = self.layer(frames, frames, frames)[0].transpose(1, 2)
            case "embedding":
                x = x + self.layer((x[:, 0] > 0).long()).transpose(1, 2)
            case "fill_":
                x = x.clone()
                x[:, :, 0] = 1.0
            case "mul":
                x = x * self.scale.exp()
            case "cumsum":
                x = x.cumsum(1)
        return self.last(self.third(x).mean(2))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        *((name, name) for name in ("LSTM", "GRU", "RNN", "MultiheadAttention")),
        ("embedding", "add"),
        ("fill_", "fill_"),
        ("mul", "mul"),
        ("cumsum", "cumsum"),
    ],
)
def test_what_is_not_known_keeps_what_it_sees_and_all_else_is_shrunk(kind, told):
    torch.manual_seed(0)
    model = Barrier(kind).eval()
    with torch.no_grad():
        for layer in (model.first, model.second, model.third):
            layer.weight[2:4] = 0
            layer.bias[2:4] = 0
    found = removal_from(model, BINS, "network", {})
    smaller = found.applied(model, "network")
    assert_same(smaller, model)
    channels = [len(each.weight) for each in (smaller.first, smaller.second, smaller.third)]
    assert channels == [6, 8, 6]
    (what,) = found.stuck
    assert what.startswith(f"'{told}' in ")
    assert found.stuck[what] == {"second": 2}
