"""How fast each layer of a program runs, and how fast its kernel could be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sympy

from sparsify.exporters.native.engine import Engine
from sparsify.exporters.native.program import Layer, Program, write_program
from sparsify.exporters.native.steps import Conv, Input, Steps, row_ids

_FRAMES = 200
_ROUNDS = 25
_PROBE_ROWS = 96  # of activations: 24 KB, which a first-level cache holds
_PROBE_OUTPUTS = 2048


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


def _bound(engine: Engine, block: int) -> float:
    """GFLOP/s of a kernel whose activations lie in the first-level cache, in whole panels."""
    frames = 64
    steps = Steps()
    length = sympy.Symbol("T", integer=True)
    source = steps.buffer(_PROBE_ROWS, 1, length)
    target = steps.buffer(_PROBE_OUTPUTS, 1, length)
    weight = np.random.default_rng(0).normal(size=(_PROBE_OUTPUTS, _PROBE_ROWS)).astype(np.float32)
    columns = np.arange(_PROBE_ROWS)
    conv = Conv(
        weight,
        np.zeros(_PROBE_OUTPUTS, np.float32),
        target,
        np.full(_PROBE_ROWS, source.number),
        columns,
        np.zeros(_PROBE_ROWS, np.int64),
        0,
    )
    steps.steps = [Input(source), conv]
    steps.output = row_ids(target, np.arange(1))
    program = write_program(
        steps, feature_dim=_PROBE_ROWS, sample_rate=0, front_end=b"", choose=lambda step: block
    )
    (time,) = _median_seconds(engine, program, _PROBE_ROWS, frames)
    return 2e-9 * weight.size * frames / time


def _frames(layer: Layer) -> int:
    """Frames of a layer's output for an utterance of 200."""
    length = sympy.sympify(layer.length)
    return int(length.subs(dict.fromkeys(length.free_symbols, _FRAMES)))
