"""Small networks of many kinds, traced and lowered, against PyTorch at many lengths."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparsify.exporters.native.lowering import lower
from sparsify.exporters.native.matrix import BLOCK
from sparsify.exporters.native.program import write_program
from sparsify.exporters.native.table import OPERATORS
from sparsify.exporters.native.tracing import trace
from sparsify.models.layers import Sum
from sparsify.models.redimnet2 import Backbone, Stage
from sparsify.models.registry import build_model

from ...versions import OLD_TORCH
from .running import call

BINS = 12
LENGTHS = (1, 2, 3, 5, 16, 31, 63, 64, 65, 99, 128, 200, 255, 300, 450)


class Of(nn.Module):
    """A network whose forward is a function of itself and the features."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, feats):
        return self.function(self, feats)


def _swapped(x):
    return x.transpose(1, 2)


class Res2Net(nn.Module):
    """Chunks that are added and convolved in turns, squeeze-and-excitation, a thinned residual."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(BINS, 16, 5, padding=2)
        self.convs = nn.ModuleList(nn.Conv1d(4, 4, 3, padding=d, dilation=d) for d in (2, 3, 4))
        self.norms = nn.ModuleList(nn.BatchNorm1d(4) for _ in range(3))
        self.down, self.up = nn.Conv1d(16, 5, 1), nn.Conv1d(5, 16, 1)
        self.sum = Sum()
        self.sum.lacking("second", [channel % 3 > 0 for channel in range(16)])
        self.last = nn.Linear(16, 8)

    def forward(self, feats):
        x = F.relu(self.first(feats.permute(0, 2, 1)))
        parts, y = list(torch.chunk(x, 4, 1)), None
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = parts[i] if y is None else y + parts[i]
            y = norm(F.relu(conv(y)))
            parts[i] = y
        y = torch.cat(parts, dim=1)
        gate = torch.sigmoid(self.up(F.relu(self.down(y.mean(2, keepdim=True)))))
        y = self.sum(y * gate, x[:, :10])
        return self.last(y.mean(-1))


class Plane(nn.Module):
    """A ResNet: strides in frequency and time, shortcuts, two-dimensional excitation."""

    def __init__(self, global_pool):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (4, 6, 6, 6))
        self.down = nn.Conv2d(4, 6, 3, stride=(2, 1), padding=1)
        self.thin = nn.Conv2d(6, 6, (3, 2), stride=(3, 2), padding=(2, 1))
        self.short = nn.Conv2d(4, 6, 1, stride=(2, 1), bias=False)
        self.squeeze, self.excite = nn.Linear(6, 3), nn.Linear(3, 6)
        self.global_pool = global_pool
        self.last = nn.Linear(6 if global_pool else 18 * 2, 5)

    def forward(self, feats):
        x = feats.permute(0, 2, 1).unsqueeze(1)
        x = F.relu(self.norms[0](self.stem(x)))
        x = F.relu(self.norms[1](self.down(x)) + self.norms[2](self.short(x)))
        gate = F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)
        gate = self.excite(F.relu6(self.squeeze(gate))).sigmoid().view(x.size(0), -1, 1, 1)
        x = self.norms[3](self.thin(x * gate))
        if self.global_pool:
            return self.last(x.mean((2, 3)))
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        stats = torch.cat([x.mean(-1), torch.sqrt(x.var(-1, unbiased=False) + 1e-5)], dim=1)
        return self.last(stats)


class Campp(nn.Module):
    """What CAM++ consists of: dense blocks in which context gates a convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(BINS, 8, 5, stride=2, padding=2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(c) for c in (8, 4, 12, 4))
        self.ins = nn.ModuleList(nn.Conv1d(c, 4, 1, bias=False) for c in (8, 12))
        self.local = nn.ModuleList(
            nn.Conv1d(4, 4, 3, padding=d, dilation=d, bias=False) for d in (1, 2)
        )
        self.down = nn.ModuleList(nn.Conv1d(4, 2, 1) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv1d(2, 4, 1) for _ in range(2))
        self.transit = nn.Conv1d(16, 6, 1)

    def forward(self, feats):
        x = F.relu(self.first(feats.permute(0, 2, 1)))
        for i in range(2):
            y = self.ins[i](F.relu(self.norms[2 * i](x)))
            y = F.relu(self.norms[2 * i + 1](y))
            context = y.mean(-1, keepdim=True) + self._segments(y, 20)
            gate = torch.sigmoid(self.up[i](F.relu(self.down[i](context))))
            x = torch.cat([x, self.local[i](y) * gate], dim=1)
        x = self.transit(x)
        return torch.cat([x.mean(dim=-1), x.std(dim=-1, unbiased=True)], dim=-1)

    def _segments(self, x, length):
        means = F.avg_pool1d(x, kernel_size=length, stride=length, ceil_mode=True)
        shape = means.shape
        means = means.unsqueeze(-1).expand(*shape, length).reshape(*shape[:-1], -1)
        return means[..., : x.shape[-1]]


class Attentive(nn.Module):
    """Attentive statistics pooling: the context is put beside every frame."""

    def __init__(self, context):
        super().__init__()
        self.context = context
        self.layer = nn.Conv1d(BINS, 8, 21, padding="same")
        self.norm = nn.BatchNorm1d(8)
        self.query = nn.Conv1d(24 if context else 8, 4, 1)
        self.weigh = nn.Conv1d(4, 8, 1)
        self.last = nn.Linear(16, 6)

    def forward(self, feats):
        x = self.norm(F.relu(self.layer(_swapped(feats))))
        seen = x
        if self.context == "expand":
            mean, std = x.mean(-1, keepdim=True), torch.sqrt(x.var(-1, keepdim=True) + 1e-7)
            seen = torch.cat([x, mean.expand_as(x), std.expand_as(x)], dim=1)
        if self.context == "repeat":
            mean, std = x.mean(-1), x.std(-1, unbiased=False).clamp(min=1e-4)
            frames = x.shape[-1]
            wide = [each.unsqueeze(2).repeat(1, 1, frames) for each in (mean, std)]
            seen = torch.cat([x, *wide], dim=1)
        alpha = torch.softmax(self.weigh(torch.tanh(self.query(seen))), dim=2)
        mean = torch.sum(alpha * x, dim=2)
        square = torch.sum(alpha * x**2, dim=2) - mean**2
        return self.last(torch.cat([mean, square.clamp(min=1e-5).sqrt()], 1))


def _padded(self, x):
    x = F.pad(_swapped(x), (3, 2), mode="reflect")
    x = self.strided(x)
    x = F.pad(x, (1, 4), mode="replicate")
    x = F.pad(self.wide(x), (2, 0))
    return torch.cat([x.amax(-1), x.amin(2), x[:, :, 1:-1].mean(2), x[..., ::2].sum(-1)], 1)


def _shaped(self, x):
    """Reshaping, stacking, slicing and joining in the ways that networks have."""
    B, frames, bins = x.shape
    x = self.frames(x)  # over (B, T, F)
    grid = x.view(B, frames, 4, bins // 4).permute(0, 2, 3, 1)  # (B, 4, 3, T)
    a, b = torch.split(grid, [1, 3], dim=1)
    joined = torch.stack([a.squeeze(1), b[:, 1], b[:, -1]], dim=1).flatten(1, 2)  # (B, 9, T)
    by_frame = joined.transpose(1, 2).reshape(-1, 9)
    again = self.small(by_frame).reshape(B, frames, 5).transpose(1, 2)
    inner = again[:, 1:4] - again[:, ::2].unsqueeze(0).squeeze(0)
    return torch.cat([joined.mean(2), inner.sum(dim=2) / frames, x.mean((0, 1)).unsqueeze(0)], 1)


def _computed(self, x):
    """Every operator that goes element by element."""
    y = torch.abs(x) + 0.5
    parts = [
        torch.exp(-y), torch.log(y), y.rsqrt(), y.reciprocal(), 2 - x, x * 3 / 2, y**0.5, x**3,
        y**-0.5, F.leaky_relu(x, 0.2), F.hardtanh(x), x.clamp(-0.3, 0.8), F.silu(x), -x,
        torch.maximum(x, self.bound), torch.minimum(x, self.bound), torch.sub(x, y, alpha=2),
        torch.add(x, 2, alpha=3), 1.0 / y, x - 1, F.hardswish(x), x / y,
        x - x.mean(1, keepdim=True), x / x.norm(dim=1, keepdim=True),
        torch.rsub(x, y), F.normalize(x, dim=2),
        F.gelu(x), F.gelu(x, approximate="tanh"), F.elu(x, 0.7), F.selu(x), self.prelu(x),
        F.softplus(x * 9), F.softplus(x, beta=3), F.mish(x), F.hardsigmoid(x),
        F.glu(x.repeat(1, 1, 2)),
    ]  # fmt: skip
    x = sum(part * (i + 1) for i, part in enumerate(parts))
    pooled = torch.addmm(self.bound[None], x.mean(1), self.matrix)
    # More values per utterance at once than the engine has registers.
    values = [torch.tanh(pooled * (i / 9)) for i in range(33)]
    values = sum(a * b for a, b in zip(values, values[::-1], strict=True))
    return torch.cat([pooled, x.var(1, correction=0), x.mean(1) @ self.matrix, values], 1)


def _shared(self, feats):
    """A layer that is used twice, and work in place."""
    x = _swapped(feats.detach()) * 1.0
    x -= x.mean(2, keepdim=True)
    power = F.adaptive_avg_pool1d(_swapped(feats).square(), 1).flatten(1)
    y = F.relu(self.layer(x), inplace=True)
    y = F.relu(self.layer(y).add_(y))
    y.mul_(0.5)
    return torch.cat([F.adaptive_avg_pool1d(y, 1).flatten(1), power], 1)


def _pooled(self, feats):
    """The highest and the means of windows, alone or in a row."""
    x = F.max_pool2d(self.stem(_swapped(feats)[:, None]), 3, 2, 1)  # (B, 4, 3, T / 2)
    y = self.prelu(self.wide(x))
    means = F.avg_pool2d(y, 3, (1, 2), 1).mean((2, 3))
    time = y.flatten(1, 2)
    parts = [
        F.max_pool1d(time, 2, padding=1), F.max_pool1d(time, 3, 1, 1),
        F.max_pool1d(time, 3, 2, 1, ceil_mode=True),
        F.avg_pool1d(time, 3, 1, 1), F.adaptive_avg_pool2d(x, (1, None)).squeeze(2),
        F.max_pool2d(y, (2, 1)).flatten(1, 2),
        F.max_pool2d(self.strided(F.max_pool2d(y, (1, 2), ceil_mode=True)), 2).flatten(1, 2),
    ]  # fmt: skip
    whole = [F.adaptive_max_pool2d(x, 1), F.adaptive_avg_pool2d(y, (3, 1))]
    rows = [part.mean(2) for part in parts] + [each.flatten(1) for each in whole]
    return torch.cat([means, *rows], 1)


def _normed(self, feats):
    """Norms over channels, groups and time, and other statistics over several axes."""
    x = self.frames(feats)
    y = _swapped(self.groups(_swapped(x)))
    plane = self.first(_swapped(y)[:, None])
    plane = self.plane(plane) + self.each(plane)
    weights = y.softmax(2) - y.max(2, keepdim=True).values * y.amin(2, keepdim=True)
    spread, mean = torch.std_mean(weights * x, 1, correction=0)
    shares = torch.logsumexp(x, 2, keepdim=True) + x.var(2, keepdim=True)
    rows = [mean, spread, (shares * x).mean(1), x.max(1)[0], x.min(1)[0], torch.logsumexp(y, 1)]
    planes = [plane.std((2, 3), correction=0), plane.amax((2, 3)), plane.abs().mean((1, 3))]
    return torch.cat([self.last(sum(rows)), *planes], 1)


def _selected(self, feats):
    """Branches that are chosen from by channel, and products over time: attention with heads."""
    both = torch.stack([branch(_swapped(feats)) for branch in self.branches], 1)
    choice = self.choice(both.sum(1).mean(2)).view(-1, 2, 8).softmax(1)
    x = (both * choice[..., None]).sum(1)
    alpha = torch.softmax(_swapped(self.heads(_swapped(x))), -1)
    heads = torch.einsum("bht,bct->bhc", alpha, x).flatten(1)
    single = torch.matmul(x[0], alpha[0, 0, :, None]).squeeze(-1)[None]
    turned = torch.einsum("oc,bct->bot", self.weight, x).mean(2)
    return torch.cat([heads, single, turned], 1)


def _attending(self, feats):
    """Attention as layers of PyTorch have it, and written out; frames and bins repeated."""
    x = self.layer(feats)
    q, k, v = (each(x).unflatten(2, (3, 4)) for each in (self.q, self.k, self.v))
    shares = torch.softmax(torch.einsum("bqhc,bkhc->bhqk", q, k) / 2, -1)
    heads = torch.einsum("bhqk,bkhc->bqhc", shares, v).flatten(2)
    turned = torch.softmax(self.k(x) @ _swapped(self.q(x)), 1)
    other = _swapped(self.v(x)) @ turned
    twice = self.up(self.down(_swapped(x)[:, None]))
    return torch.cat([heads.mean(1), other.amax(2), twice.mean(3).flatten(1)], 1)


def _redimnet(self, feats):
    whole = _swapped(feats[:, : feats.shape[1] // 4 * 4]).unsqueeze(1)
    x = self.backbone(whole)
    return torch.cat([x.mean(2), x.amax(2)], 1)


def _registered(name, **options):
    return build_model(name, feature_dim=BINS, embedding_dim=10, **options)


NETWORKS = {
    "res2net": Res2Net,
    "plane": lambda: Plane(False),
    "plane-pool": lambda: Plane(True),
    "cam++": Campp,
    "attentive": lambda: Attentive(None),
    "attentive-expand": lambda: Attentive("expand"),
    "attentive-repeat": lambda: Attentive("repeat"),
    "padded": lambda: Of(
        _padded, strided=nn.Conv1d(BINS, 6, 3, stride=3), wide=nn.Conv1d(6, 5, 4, groups=1)
    ),
    "shaped": lambda: Of(_shaped, frames=nn.Linear(BINS, BINS), small=nn.Linear(9, 5)),
    "computed": lambda: Of(
        _computed,
        bound=nn.Parameter(torch.randn(BINS)),
        matrix=nn.Parameter(torch.randn(BINS, BINS)),
        prelu=nn.PReLU(),
    ),
    "pooled": lambda: Of(
        _pooled,
        stem=nn.Conv2d(1, 4, 7, stride=(2, 1), padding=3),
        wide=nn.Conv2d(4, 6, 3, padding=1),
        prelu=nn.PReLU(6),
        strided=nn.Conv2d(6, 4, 3, stride=2, padding=1),
    ),
    "normed": lambda: Of(
        _normed,
        frames=nn.LayerNorm(BINS),
        groups=nn.GroupNorm(3, BINS),
        first=nn.Conv2d(1, 4, 3, padding=1),
        plane=nn.GroupNorm(2, 4),
        each=nn.InstanceNorm2d(4, affine=True),
        last=nn.LayerNorm(BINS),
    ),
    "selected": lambda: Of(
        _selected,
        branches=nn.ModuleList(nn.Conv1d(BINS, 8, k, padding=k // 2) for k in (3, 5)),
        choice=nn.Linear(8, 16),
        heads=nn.Linear(8, 3),
        weight=nn.Parameter(torch.randn(5, 8)),
    ),
    "attending": lambda: Of(
        _attending,
        layer=nn.TransformerEncoderLayer(BINS, 2, 16, activation="gelu", batch_first=True),
        **{name: nn.Linear(BINS, BINS) for name in "qkv"},
        down=nn.Conv2d(1, 2, 3, 2),
        up=nn.Upsample(scale_factor=(2, 3)),
    ),
    "redimnet2": lambda: Of(
        _redimnet, backbone=Backbone(BINS, 4, 6, (Stage(1, 1, 1, 2), Stage(2, 4, 1, 1)), (6, 6))
    ),
    "redimnet2-b6": lambda: Of(
        _redimnet,
        backbone=Backbone(BINS, 4, 3, (Stage(2, 4, 1, 0.5),), (6,), image_head=True),
    ),
    "shared": lambda: Of(_shared, layer=nn.Conv1d(BINS, BINS, 3, padding=1)),
    "speechbrain": lambda: _registered(
        "ecapa-tdnn", channels=16, aggregation_channels=24, variant="speechbrain"
    ),
    "resnet50": lambda: _registered("resnet50", channels=4, pooling="attentive"),
}
traced = {}


def _trained(model, seed=0):
    """Random weights, half of them zero, and random running statistics."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if "running_var" in name:
            tensor.uniform_(0.5, 2, generator=generator)
        elif "running_mean" in name or tensor.ndim == 1:
            tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
        elif tensor.ndim > 1:
            tensor.mul_(torch.rand(tensor.shape, generator=generator) > 0.5)
    return model.eval()


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A network and its blob, for all engines: tracing takes longer than what is done with them."""
    name = request.param
    if name == "attending" and OLD_TORCH:
        pytest.skip("torch before 2.13 cannot trace it for any number of frames")
    model = _trained(NETWORKS[name]())
    graph = trace(model, BINS, name)
    traced[name] = {node.target for node in graph.graph.nodes if node.op == "call_function"}
    rng = np.random.default_rng(0)
    program = write_program(
        lower(graph, name),
        feature_dim=BINS,
        sample_rate=16000,
        front_end=b"",
        choose=lambda step: int(rng.choice([1, BLOCK])),
        least_frames=getattr(model, "min_frames", 1),
    )
    return model, program.blob


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_networks_compute_what_pytorch_does(widest_engine, network):
    model, blob = network
    rng = np.random.default_rng(0)
    compared = 0
    for frames in LENGTHS:
        feats = torch.from_numpy(rng.normal(size=(1, frames, BINS)).astype(np.float32))
        code, found, _ = call(widest_engine, blob, feats[0].numpy())
        if code:
            assert (code, frames < 8) == (-2, True)
            continue
        with torch.no_grad():
            expected = model(feats.clone())[0].numpy()
        compared += 1
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale, err_msg=str(frames))
    assert compared > 8


def test_every_operator_is_in_one_of_them():
    if traced.keys() != NETWORKS.keys():
        pytest.skip("asks what the tests before it have traced, which ran in other processes")
    names = {str(each) for each in set(OPERATORS).difference(*traced.values())}
    scalar = {f"aten.{each}.Scalar" for each in ("add", "sub", "mul", "div")}
    assert names == scalar | {"aten.avg_pool1d.default", "aten.squeeze.dim"}  # see test_layers
