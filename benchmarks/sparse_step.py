"""How much faster a training step is that leaves out the zeros of convolutions.

Run it as `python -m sparsify.benchmarks.sparse_step [--output FILE]`. It steps ECAPA-TDNNs with
AdaBreg on noise of the right shape, before the landing (zeros have a gradient) and after it. The
variants take turns within one run; a speed-up has a 95 % interval over the rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from sparsify.benchmarks.timing import in_turns, paired_ratio
from sparsify.benchmarks.training_step import LONG, SPEAKERS, Stepper, print_measured
from sparsify.recipe.recipe import load_recipe
from sparsify.training.compute import choose_compute

ROUNDS = 9
NETWORKS = {"ECAPA-TDNN-512": (512, 1536), "ECAPA-TDNN-128": (128, 512)}
SPARSITIES = (0.9, 0.95, 0.99)
BF16 = {"training.precision": "bf16"}
# The same computation, with and without zeros; in bf16, which is faster on some processors.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "dense": {"training.sparse_convolutions": False},
    "dense, bf16": BF16,
    "sparse, before the landing": {"training.sparse_convolutions": True},
    "sparse, after the landing": {
        "training.sparse_convolutions": True,
        "methods.adabreg.landing": 1 / LONG,
    },
}


def measure(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Median milliseconds of a step of every network, sparsity and variant.

    Args:
        changes: Dotted keys and values that the recipe is changed by.
    """
    # It also imports what only measurements of inference need.
    from sparsify.benchmarks.machine import command_line, describe_machine  # noqa: PLC0415

    choose_compute("cpu", "fp32")  # before the first parallel operation
    return {
        "command": command_line(),
        "machine": asdict(describe_machine()),
        "torch_isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "rounds": ROUNDS,
        "networks": {
            name: [_steps(dict(changes or {}), widths, sparsity) for sparsity in SPARSITIES]
            for name, widths in NETWORKS.items()
        },
    }


def _steps(changes: dict[str, Any], widths: tuple[int, int], sparsity: float) -> dict[str, Any]:
    names = [name for name in VARIANTS if VARIANTS[name] != BF16 or _has_bf16()]
    shape = dict(zip(("channels", "aggregation_channels"), widths, strict=True))
    common = {
        "model.options": shape,
        "target_sparsity": sparsity,
        "training.steps": LONG,
        "training.log_every": LONG,
        "training.compile": False,
        "training.precision": "fp32",
        "methods.adabreg.ramp": 0.0,
        "methods.adabreg.every": 1,  # in the first steps the duals pass λ between two updates
        "methods.adabreg.initial_sparsity": sparsity,
        **changes,
    }
    recipes = [load_recipe("speech-mini", changes={**common, **VARIANTS[n]}) for n in names]
    steppers = [Stepper(recipe, "cpu", SPEAKERS) for recipe in recipes]
    for stepper in steppers:
        stepper.learner.filterbank = nn.Identity()  # type: ignore[assignment]
    recipe = recipes[0]
    frames = round(100 * recipe.data.crop_seconds)
    generator = torch.Generator().manual_seed(0)
    size = recipe.training.batch_size
    feats = torch.randn(size, frames, recipe.front_end.num_mel_bins, generator=generator)
    labels = torch.randint(0, SPEAKERS, (size,), generator=generator)
    steps = [partial(stepper, (feats, labels)) for stepper in steppers]
    in_turns(steps, 3, "cpu")
    times = in_turns(steps, ROUNDS, "cpu")
    results = {}
    for name, own in zip(names, times, strict=True):
        ratio = paired_ratio(times[0], own)
        results[name] = {"ms": round(float(np.median(own)), 1), "speedup": asdict(ratio)}
    return {"sparsity": sparsity, "batch": list(feats.shape), "variants": results}


def _has_bf16() -> bool:
    """Whether bf16 is computed in hardware, which torch does not do if it is told to use less."""
    isa = torch.backends.cpu.get_cpu_capability()
    return isa == "AVX512" and choose_compute("cpu", "auto").precision == "bf16"


def main() -> None:
    """Measures and prints JSON."""
    print_measured("sparse_step", measure)


if __name__ == "__main__":
    main()
