"""How fast each layer of a program runs, and how fast its kernel could be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy
from numpy.typing import NDArray

from sparsify.exporters.native.buffers import row_ids
from sparsify.exporters.native.engine import Engine
from sparsify.exporters.native.program import Layer, Program, write_program
from sparsify.exporters.native.steps import Conv, Input, Steps

_FRAMES = 200
_ROUNDS = 25
_PROBE_ROWS = 96  # of activations: 24 KB, which a first-level cache holds
_PROBE_OUTPUTS = 2048
_PANEL = 64


@dataclass(frozen=True)
class LayerSpeed:
    """A layer's speed.

    Attributes:
        name: Of the module.
        shape: Outputs and columns of its matrix.
        nonzero: Its nonzeros.
        block: Rows that share a pattern.
        microseconds: Median time.
        gflops: Useful work: two operations a nonzero, frame and frequency, per second.
        share: Of the speed that the same kernel has on activations in the first-level cache, which
            loads bound.
    """

    name: str
    shape: tuple[int, int]
    nonzero: int
    block: int
    microseconds: float
    gflops: float
    share: float


def layer_speeds(engine: Engine, program: Program, bins: int) -> list[LayerSpeed]:
    """Measures each layer for 200 frames, one thread.

    Args:
        engine: Runs the program.
        program: The network.
        bins: Features of a frame.
    """
    seconds = _median_seconds(engine, program, bins)
    bounds = {block: _bound(engine, block) for block in {each.block for each in program.layers}}
    speeds = []
    for layer, time in zip(program.layers, seconds, strict=True):
        gflops = 2e-9 * layer.nonzero * layer.frequencies * _frames(layer) / time
        speeds.append(
            LayerSpeed(
                layer.name,
                layer.shape,
                layer.nonzero,
                layer.block,
                1e6 * time,
                gflops,
                gflops / bounds[layer.block],
            )
        )
    return speeds


def _median_seconds(
    engine: Engine, program: Program, bins: int, frames: int = _FRAMES
) -> list[float]:
    feats = np.random.default_rng(0).normal(size=(frames, bins)).astype(np.float32)
    rounds = [engine.seconds(program.blob, feats) for _ in range(_ROUNDS)]
    return [float(each) for each in np.median(rounds, axis=0)[list(program.positions)]]


def matrix_seconds(
    engine: Engine, weight: NDArray[np.float32], block: int, frames: int = _FRAMES
) -> float:
    """Median time of a matrix alone, in seconds.

    Args:
        engine: Runs it.
        weight: `(outputs, channels)`.
        block: Rows that share a pattern in the kernel.
        frames: Of the activations.
    """
    outputs, channels = weight.shape
    steps = Steps()
    length = sympy.Symbol("T", integer=True)
    source, target = steps.buffer(channels, 1, length), steps.buffer(outputs, 1, length)
    zeros = np.zeros(channels, np.int64)
    bias = np.zeros(outputs, np.float32)
    rows = np.arange(channels)
    conv = Conv(weight, bias, target, zeros + source.number, rows, zeros, 0)
    steps.steps = [Input(source), conv]
    steps.output = row_ids(target, np.arange(1))
    program = write_program(
        steps, feature_dim=channels, sample_rate=0, front_end=b"", choose=lambda step: block
    )
    (seconds,) = _median_seconds(engine, program, channels, frames)
    return seconds


def _bound(engine: Engine, block: int) -> float:
    """GFLOP/s of a kernel whose activations lie in the first-level cache, in one whole panel."""
    shape = (_PROBE_OUTPUTS, _PROBE_ROWS)
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return 2e-9 * weight.size * _PANEL / matrix_seconds(engine, weight, block, _PANEL)


def _frames(layer: Layer) -> int:
    """Frames of a layer's output for an utterance of 200."""
    length = sympy.sympify(layer.length)
    return int(length.subs(dict.fromkeys(length.free_symbols, _FRAMES)))
