"""Which kernel each layer runs in: measured where there is a compiler, else by its density."""

from __future__ import annotations

import logging
import subprocess

import numpy as np

from sparsify.errors import SparsifyError
from sparsify.exporters.native.engine import Engine
from sparsify.exporters.native.matrix import BLOCK
from sparsify.exporters.native.program import Program, write_program
from sparsify.exporters.native.steps import Conv, Steps

logger = logging.getLogger(__name__)

_FRAMES = 200
_ROUNDS = 7
# Sparser layers are never faster in blocks, denser ones always; between them it is measured.
_SPARSE, _DENSE = 0.15, 0.95
_UNMEASURED = 0.6


def by_density(step: Conv, threshold: float = _UNMEASURED) -> int:
    """Rows that share a pattern, by the share of a layer's nonzeros."""
    return BLOCK if _density(step) > threshold else 1


def measured_choice(steps: Steps, feature_dim: int) -> dict[int, int]:
    """Rows that share a pattern, by the number of a layer's output buffer.

    Layers that may go either way are run in both kernels on this machine, in turns.

    Args:
        steps: The network; changed.
        feature_dim: Features of a frame.
    """
    convs = [step for step in steps.steps if isinstance(step, Conv)]
    chosen = {id(step): by_density(step) for step in convs}
    unclear = [step for step in convs if _SPARSE < _density(step) < _DENSE]
    if unclear:
        try:
            engine = Engine()
            chosen.update(_faster(engine, steps, unclear, feature_dim))
        except (OSError, ValueError, subprocess.SubprocessError, SparsifyError) as error:
            logger.warning("kernels are chosen by density, not measured: %s", error)
    return chosen


def _faster(engine: Engine, steps: Steps, unclear: list[Conv], feature_dim: int) -> dict[int, int]:
    programs = [_program(steps, feature_dim, block) for block in (1, BLOCK)]
    feats = np.random.default_rng(0).normal(size=(_FRAMES, feature_dim)).astype(np.float32)
    times = [[], []]  # type: list[list[np.ndarray]]
    for _ in range(_ROUNDS):
        for program, measured in zip(programs, times, strict=True):
            measured.append(engine.seconds(program.blob, feats))
    single, blocks = (np.median(each, axis=0)[list(programs[0].positions)] for each in times)
    order = [step for step in steps.steps if isinstance(step, Conv)]
    faster = {
        id(step): BLOCK if in_blocks < alone else 1
        for step, alone, in_blocks in zip(order, single, blocks, strict=True)
    }
    return {id(step): faster[id(step)] for step in unclear}


def _program(steps: Steps, feature_dim: int, block: int) -> Program:
    return write_program(
        steps, feature_dim=feature_dim, sample_rate=0, front_end=b"", choose=lambda step: block
    )


def _density(step: Conv) -> float:
    return np.count_nonzero(step.weight) / step.weight.size
