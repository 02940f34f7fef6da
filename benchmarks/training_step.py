"""Where the time of a training step goes, and which precision and compilation pay.

Run it as `python -m sparsify.benchmarks.training_step [--output FILE]`. It steps the network of
`speech-mini` with AdaBreg on noise of the right shape; the variants take turns within one run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsify.benchmarks.inference import describe_machine
from sparsify.methods.base import Task
from sparsify.methods.bregman import AdaBregMethod, AdaBregOptions
from sparsify.models.registry import build_model
from sparsify.optim.lambda_rules import FixedLambda
from sparsify.recipe import Recipe, load_recipe
from sparsify.speech.batches import CropBatches, training_batches
from sparsify.speech.features import Filterbank
from sparsify.speech.synthetic import synthetic_corpus
from sparsify.training.compute import choose_compute, compiled
from sparsify.training.objectives import AAMSoftmax

ROUNDS, STEPS_PER_ROUND = 8, 4
SPEAKERS = 75


class Stepper:
    """Forward, backward and update of one variant, on features that are there already."""

    def __init__(self, recipe: Recipe, precision: Any, compile_: bool) -> None:
        torch.manual_seed(0)
        self.name = {"precision": precision, "compiled": compile_}
        self.compute = choose_compute("cpu", precision)
        network = build_model(recipe.model.name, **recipe.model.options)
        self.head = AAMSoftmax(192, SPEAKERS * len(recipe.augment.speeds))
        # As in the middle of training: the ramp is over, landing far away.
        task = Task(network, self.head, 0.9, (), 100_000, 0)
        options = AdaBregOptions.model_validate(recipe.methods["adabreg"] | {"ramp": 0})
        self.method = AdaBregMethod(task, options)
        self.forward = compiled(network, self.compute) if compile_ else network
        self.parameters = [*network.parameters(), *self.head.parameters()]

    def __call__(self, feats: Tensor, labels: Tensor) -> None:
        """One step."""
        with self.compute.autocast():
            embeddings = self.forward(feats)
        loss, _ = self.head(embeddings.float(), labels)
        self.method.optimizer.zero_grad()
        loss.backward()
        self.method.mask_gradients()
        nn.utils.clip_grad_norm_(self.parameters, 5.0)
        self.method.step()


def measure(recipe: Recipe) -> dict[str, Any]:
    """Median milliseconds of a step for every variant, and of what surrounds the network."""
    choose_compute("cpu", "fp32")  # before the first parallel operation
    corpus, cache = synthetic_corpus(SPEAKERS, 4, seed=0)
    batches = CropBatches(corpus, cache, recipe)
    waveforms, labels = next(training_batches(corpus, cache, recipe))
    filterbank = Filterbank(recipe.front_end)
    feats = filterbank(waveforms)
    steppers = [Stepper(recipe, p, c) for p in ("fp32", "bf16") for c in (False, True)]
    first = [_ms(partial(stepper, feats, labels)) for stepper in steppers]
    times: list[list[float]] = [[] for _ in steppers]
    for _ in range(ROUNDS):
        for stepper, measured in zip(steppers, times, strict=True):
            stepper(feats, labels)
            measured += [_ms(partial(stepper, feats, labels)) for _ in range(STEPS_PER_ROUND)]
    medians = [float(np.median(measured)) for measured in times]
    return {
        "command": "python -m sparsify.benchmarks.training_step",
        "machine": asdict(describe_machine()),
        "threads": torch.get_num_threads(),
        "recipe": recipe.name,
        "batch": list(waveforms.shape),
        "variants": [
            stepper.name
            | {
                "step_ms": round(median, 1),
                "speedup": round(medians[0] / median, 2),
                "first_step_s": round(start / 1000, 1),
            }
            for stepper, median, start in zip(steppers, medians, first, strict=True)
        ],
        "parts": _parts(recipe, steppers[-1], medians[-1])
        | {
            "batch_in_one_worker_ms": round(_median_ms(lambda: batches[1]), 1),
            "features_ms": round(_median_ms(lambda: filterbank(waveforms)), 1),
        },
    }


def _parts(recipe: Recipe, stepper: Stepper, step_ms: float) -> dict[str, float]:
    """The optimizer with and without the sparsity control, and its share of a whole training."""
    optimizer = stepper.method.optimizer
    rule, idle = optimizer.lambda_rule, FixedLambda(0.0, every=10**9)
    controlled: list[float] = []
    plain: list[float] = []
    for _ in range(20):
        for chosen, times in ((rule, controlled), (idle, plain)):
            optimizer.lambda_rule = chosen
            times += [_ms(optimizer.step) for _ in range(rule.every)]
    control = max(float(np.mean(controlled) - np.mean(plain)), 0.0)
    calibration = _median_ms(lambda: optimizer.lambda_for(0.9))
    options = AdaBregOptions.model_validate(recipe.methods["adabreg"])
    share = options.ramp * calibration + (options.landing - options.ramp) * control
    return {
        "optimizer_ms": round(float(np.mean(controlled)), 2),
        "sparsity_control_ms_per_step": round(control, 3),
        "calibration_ms_per_step_of_the_ramp": round(calibration, 2),
        "control_share_of_training": round(share / step_ms, 5),
    }


def _median_ms(action: Callable[[], object], repeat: int = 9) -> float:
    return float(np.median([_ms(action) for _ in range(repeat)]))


def _ms(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m sparsify.benchmarks.training_step")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    text = json.dumps(measure(load_recipe("speech-mini")), indent=1)
    if options.output:
        options.output.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
