"""Thousands of random layers, alone, against PyTorch: every frame of every output."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._sympy.functions import FloorDiv

from sparsify.exporters.native.matrix import BLOCK

from .machines import EXACT
from .running import Building, T, all_frames

_aten = torch.ops.aten
LENGTHS = (1, 2, 7, 15, 16, 17, 31, 48, 63, 64, 65, 127, 128, 129, 200, 321)
LAYERS = 14  # of a program


class _Layers:
    """Random layers on the same features."""

    def __init__(self, seed, half):
        self.rng = np.random.default_rng(seed)
        self.half = half
        self.channels = self.rng.choice([1, 2, 3, 5, 8])
        self.frequencies = self.rng.choice([1, 4, 7])
        self.building = Building(int(self.channels * self.frequencies))
        shape = (1, T, int(self.channels), int(self.frequencies))
        value = self.building.call(_aten.view.default, self.building.feats, shape, shape=shape)
        self.input = self.building.call(_aten.permute.default, value, [0, 2, 3, 1])
        self.made = [self._layer() for _ in range(LAYERS)]

    def program(self):
        def choose(step):
            return int(self.rng.choice([1, BLOCK]))

        return self.building.program([value for value, _ in self.made], choose, self.half).blob

    def lengths(self, frames):
        """Of each layer's output."""
        return [int(value.length.subs(T, frames)) for value, _ in self.made]

    def tensors(self, *shape):
        values = torch.from_numpy(self.rng.normal(size=shape).astype(np.float32))
        return values.half().float() if self.half else values

    def _weight(self, outputs, inputs, *kernel):
        """From dense to all zero, with empty rows and columns, alone or in blocks of rows."""
        weight = self.tensors(outputs, inputs, *kernel)
        density = self.rng.choice([0.0, 0.05, 0.3, 0.7, 1.0])
        rows = -(-outputs // 4) if self.rng.random() < 0.5 else outputs
        keep = self.rng.random((rows, *weight.shape[1:])) < density
        keep = np.repeat(keep, 4, axis=0)[:outputs] if rows != outputs else keep
        weight[torch.from_numpy(~keep)] = 0
        if self.rng.random() < 0.3:
            weight[self.rng.integers(outputs)] = 0
            weight[:, self.rng.integers(inputs)] = 0
        return weight

    def _layer(self):
        make = getattr(self, "_" + self.rng.choice(["linear", "time", "plane", "plane"]))
        drawn = self.rng.bit_generator.state
        self.earlier = self._affine(*make())
        self.rng.bit_generator.state = drawn
        value, function = make()
        if self.rng.random() < 0.6:
            value, function = self._finished(value, function)
        return value, function

    def _linear(self):
        size = int(self.channels * self.frequencies)
        weight = self._weight(int(self.rng.integers(1, 21)), size)
        flat = self.building.call(_aten.view.default, self.building.feats, (), shape=(T, size))
        value = self.building.call(_aten.mm.default, flat, weight.T)
        shape = (1, T, len(weight))
        value = self.building.call(_aten.view.default, value, (), shape=shape)
        value = self.building.call(_aten.permute.default, value, [0, 2, 1])
        return value, lambda x: F.linear(x, weight).transpose(1, 2)

    def _time(self):
        """A convolution over time, of any stride; of wide kernels, too."""
        times = int(self.rng.choice([1, 1, 2]))
        size = int(self.channels * self.frequencies) * times
        groups = int(self.rng.choice([g for g in (1, 2, size) if size % g == 0]))
        outputs = groups * int(self.rng.integers(1, 2 + 20 // groups))
        kernel, dilation = int(self.rng.choice([1, 2, 3, 5, 21])), int(self.rng.choice([1, 2, 4]))
        stride, padding = int(self.rng.choice([1, 1, 2, 3])), int(self.rng.integers(0, 12))
        if self.rng.random() < 0.5:
            stride, padding = 1, dilation * (kernel - 1) // 2
        weight = self._weight(outputs, size // groups, kernel)
        bias = self.tensors(outputs) if self.rng.random() < 0.5 else None
        length = _length(kernel, stride, padding, dilation)
        x = self.building.call(_aten.permute.default, self.building.feats, [0, 2, 1])
        x = self.building.call(_aten.cat.default, [x] * times, 1)
        value = self.building.call(
            _aten.convolution.default,
            *(x, weight, bias, [stride], [padding], [dilation], False, [0], groups),
            shape=(1, outputs, length),
        )
        return value, lambda x: F.conv1d(
            x.transpose(1, 2).repeat(1, times, 1), weight, bias, stride, padding, dilation, groups
        )

    def _plane(self):
        """A convolution over frequency and time."""
        height = int(self.rng.integers(1, min(self.frequencies, 4) + 1))
        kernel = [height, int(self.rng.choice([1, 3, 4]))]
        dilation = [1, int(self.rng.choice([1, 2]))]
        stride = [int(self.rng.choice([1, 2, 3])), int(self.rng.choice([1, 1, 2]))]
        padding = [int(self.rng.integers(0, 3)), int(self.rng.integers(0, 5))]
        if self.rng.random() < 0.5:
            stride[1], padding[1] = 1, dilation[1] * (kernel[1] - 1) // 2
        outputs = int(self.rng.integers(1, 11))
        weight = self._weight(outputs, int(self.channels), *kernel)
        bias = self.tensors(outputs) if self.rng.random() < 0.5 else None
        frequencies = (int(self.frequencies) + 2 * padding[0] - kernel[0]) // stride[0] + 1
        value = self.building.call(
            _aten.convolution.default,
            *(self.input, weight, bias, stride, padding, dilation, False, [0, 0], 1),
            shape=(1, outputs, frequencies, _length(kernel[1], stride[1], padding[1], dilation[1])),
        )
        size = (int(self.channels), int(self.frequencies))

        def function(x):
            x = x.reshape(1, -1, *size).permute(0, 2, 3, 1)
            return F.conv2d(x, weight, bias, stride, padding, dilation)

        return value, function

    def _finished(self, value, function):
        """What may follow a convolution, in the order that the engine has, or in another."""
        chosen = ["relu", "affine", "residual", "relu"]
        chosen = [each for each in chosen if self.rng.random() < 0.6]
        if self.rng.random() < 0.2:
            self.rng.shuffle(chosen)
        for name in chosen:
            value, function = getattr(self, f"_{name}")(value, function)
        return value, function

    def _relu(self, value, function):
        return self.building.call(_aten.relu.default, value), lambda x: function(x).relu()

    def _affine(self, value, function):
        scale, shift = self.tensors(value.rows.shape[1]), self.tensors(value.rows.shape[1])
        shape = (-1, *[1] * (value.rows.ndim - 2))
        return (
            self.building.affine(value, scale, shift, axis=1),
            lambda x: function(x) * scale.reshape(shape) + shift.reshape(shape),
        )

    def _residual(self, value, function):
        other, made = self.earlier
        turn = int(self.rng.integers(2))  # rows that lie in another order cannot be added there
        if turn:
            parts = [
                self.building.call(_aten.slice.Tensor, other, 1, *part)
                for part in ((1, None), (0, 1))
            ]
            other = self.building.call(_aten.cat.default, parts, 1)
        return (
            self.building.call(_aten.add.Tensor, value, other),
            lambda x: function(x) + made(x).roll(-turn, 1),
        )


def _length(kernel, stride, padding, dilation):
    return FloorDiv(T + 2 * padding - dilation * (kernel - 1) - 1, stride) + 1


@pytest.mark.parametrize("half", [False, True])
def test_layers_compute_what_pytorch_does(engine, half):
    for seed in range(24):
        layers = _Layers(seed, half)
        blob = layers.program()
        possible = [frames for frames in LENGTHS if min(layers.lengths(frames)) > 0]
        for frames in layers.rng.choice(possible, 4, replace=False):
            _compare(engine, blob, layers, int(frames))


def _compare(engine, blob, layers, frames):
    feats = torch.from_numpy(layers.rng.normal(size=(1, frames, layers.building.feats.rows.size)))
    feats = feats.float()
    counts = np.repeat(layers.lengths(frames), [value.rows.size for value, _ in layers.made])
    found = all_frames(engine, blob, feats[0].numpy(), counts)
    relative = engine.half_tolerance if layers.half else EXACT
    begin = 0
    for number, (value, function) in enumerate(layers.made):
        expected = function(feats).reshape(value.rows.size, -1).numpy()
        rows = np.stack(found[begin : begin + value.rows.size])
        begin += value.rows.size
        scale = max(float(np.abs(expected).max()), 1.0)
        np.testing.assert_allclose(
            rows,
            expected,
            rtol=0,
            atol=relative * scale,
            err_msg=f"layer {number}, {frames} frames",
        )


def test_operators_that_only_other_tracers_write(widest_engine):
    building = Building(3)
    x = building.call(
        _aten.squeeze.dim, building.call(_aten.unsqueeze.default, building.feats, 0), 0
    )
    for operator in (_aten.add.Scalar, _aten.sub.Scalar, _aten.mul.Scalar, _aten.div.Scalar):
        x = building.call(operator, x, 3)
    pooled = building.call(
        _aten.avg_pool1d.default,
        building.call(_aten.permute.default, x, [0, 2, 1]),
        *([2], [2], [0], True),
        shape=(1, 3, FloorDiv(T + 1, 2)),
    )
    wide = building.call(_aten.unsqueeze.default, pooled, -1)
    joined = 2 * FloorDiv(T + 1, 2)
    wide = building.call(_aten.expand.default, wide, (), shape=(1, 3, FloorDiv(T + 1, 2), 2))
    wide = building.call(_aten.view.default, wide, (), shape=(1, 3, joined))
    value = building.call(_aten.slice.Tensor, wide, 2, 0, None, shape=(1, 3, T))
    feats = np.arange(15, dtype=np.float32).reshape(5, 3)
    found = all_frames(widest_engine, building.program([value]).blob, feats, [5] * 3)
    pairs = feats.T[:, [0, 0, 2, 2, 4]] / 2 + feats.T[:, [1, 1, 3, 3, 4]] / 2
    np.testing.assert_allclose(np.stack(found), pairs, rtol=1e-6)


def test_error_function(engine):
    """Where it bends, where it is 1 to the last bit, and beyond."""
    x = torch.cat(
        [torch.linspace(-5, 5, 999), torch.tensor([0.0, -1e-30, 30, -torch.inf, torch.nan])]
    )
    building = Building(1)
    value = building.call(_aten.erf.default, building.feats)
    found = all_frames(engine, building.program([value]).blob, x[:, None].numpy(), [len(x)])
    np.testing.assert_allclose(found[0], x.erf().numpy(), rtol=0, atol=4e-7)


@pytest.mark.parametrize("flush", [False, True])
def test_half_precision_is_exact(engine, flush):
    """Subnormal halves, too, where the thread takes subnormal numbers for zero; and what half
    precision cannot hold is not stored in it.
    """
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves[::2] *= -1
    for weight in (halves[:, None], np.array([[1 / 80], [1e5]], np.float32)):
        building = Building(1)
        flat = building.call(_aten.view.default, building.feats, (), shape=(T, 1))
        value = building.call(_aten.mm.default, flat, torch.from_numpy(weight.T))
        blob = building.program([value], half=True).blob
        engine.flush_denormals(flush)
        found = all_frames(engine, blob, np.ones((2, 1), np.float32), [2] * len(weight))
        engine.flush_denormals(False)
        np.testing.assert_array_equal(np.stack(found), np.repeat(weight, 2, 1))
