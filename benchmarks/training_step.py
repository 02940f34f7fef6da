"""Where the time of a training step goes, and which precision and compilation pay.

Run it as `python -m sparsify.benchmarks.training_step [--output FILE]`. It steps the network of
`speech-mini` with AdaBreg on noise of the right shape; the variants take turns within one run. The
device check measures large networks in the same way, see `throughput`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sparsify.audio.features import Filterbank
from sparsify.benchmarks.timing import Marks, in_turns, median_ms, milliseconds
from sparsify.corpus.synthetic import synthetic_corpus
from sparsify.documents import to_json
from sparsify.methods.bregman import AdaBregMethod, AdaBregOptions
from sparsify.methods.registry import ResolvedRecipe, resolve
from sparsify.optim.lambda_rules import FixedLambda
from sparsify.recipe.recipe import Recipe, load_recipe
from sparsify.training.batches import Batch, CropBatches, training_batches
from sparsify.training.compute import choose_compute
from sparsify.training.devices import Device
from sparsify.training.distributed import Processes
from sparsify.training.learner import Learner
from sparsify.training.meter import Meter
from sparsify.training.records import step_record
from sparsify.training.starting_network import start_of

ROUNDS, STEPS_PER_ROUND = 8, 4
SPEAKERS = 75
LONG = 100_000  # steps of a training in whose middle a measurement lies


class Stepper:
    """The loop of a training, its batches being there already.

    Args:
        recipe: What is trained.
        device: `cpu` or `cuda`.
        speakers: Number of training speakers.

    Attributes:
        learner: What takes the steps.
        marks: Where the time of the steps goes: `start`, `features`, `augment`, `network` (forward,
            objective and backward), `clip`, `optimizer`, `end` and `log`.
    """

    def __init__(self, recipe: Recipe, device: Device, speakers: int) -> None:
        compute = choose_compute(device, recipe.training.precision)
        self.recipe = recipe
        resolved = resolve(recipe)
        self.learner = Learner(resolved, compute, Processes(), speakers, start_of(resolved))
        self.marks = Marks(compute.device)
        self._meter = Meter(self.learner.processes)
        self._done = 0
        self._mark_parts()

    def __call__(self, batch: Batch) -> None:
        """A step, as the trainer takes it."""
        self._done += 1
        self.marks("start")
        self._meter.add(self.learner.update(self._done, batch))
        if self._done % self.recipe.training.log_every == 0:
            self.marks("log")
            step_record(self.learner, self._done, self._meter.read(), 0.0)
        self.marks("end")

    def _mark_parts(self) -> None:
        learner, marks = self.learner, self.marks
        optimizer, mask_gradients = learner.method.optimizer, learner.method.mask_gradients

        def after_backward() -> None:
            marks("clip")
            mask_gradients()

        learner.method.mask_gradients = after_backward  # type: ignore[method-assign]
        learner.filterbank.register_forward_pre_hook(lambda *_: marks("features"))
        learner.filterbank.register_forward_hook(lambda *_: marks("augment"))
        learner.model.register_forward_pre_hook(lambda *_: marks("network"))
        optimizer.register_step_pre_hook(lambda *_: marks("optimizer"))
        optimizer.register_step_post_hook(lambda *_: marks("end"))


def measure(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Median milliseconds of a step for every variant, and of what surrounds the network.

    Args:
        changes: Dotted keys and values that the recipe is changed by.
    """
    # It also imports what only measurements of inference need.
    from sparsify.benchmarks.machine import command_line, describe_machine  # noqa: PLC0415

    recipe = resolve(load_recipe("speech-mini", changes=changes))
    choose_compute("cpu", "fp32")  # before the first parallel operation
    corpus, cache = synthetic_corpus(SPEAKERS, 4, seed=0)
    batches = CropBatches(corpus, cache, recipe)
    waveforms, labels = next(training_batches(corpus, cache, recipe))
    filterbank = Filterbank(recipe.front_end)
    batch = (filterbank(waveforms), labels)
    variants = [(p, c) for p in ("fp32", "bf16") for c in (False, True)]
    steppers = [_on_features(changes or {}, *variant) for variant in variants]
    steps = [partial(stepper, batch) for stepper in steppers]
    first = [milliseconds(step, "cpu") for step in steps]
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(ROUNDS):
        for step, measured in zip(steps, times, strict=True):
            step()
            measured.extend(in_turns([step], STEPS_PER_ROUND, "cpu")[0])
    medians = [float(np.median(measured)) for measured in times]
    return {
        "command": command_line(),
        "machine": asdict(describe_machine()),
        "threads": torch.get_num_threads(),
        "recipe": recipe.name,
        "batch": list(waveforms.shape),
        "variants": [
            {
                "precision": precision,
                "compiled": compiled,
                "step_ms": round(median, 1),
                "speedup": round(medians[0] / median, 2),
                "first_step_s": round(start / 1000, 1),
            }
            for (precision, compiled), median, start in zip(variants, medians, first, strict=True)
        ],
        "parts": _parts(recipe, steppers[-1], medians[-1])
        | {
            "batch_in_one_worker_ms": round(median_ms(lambda: batches[1], "cpu"), 1),
            "features_ms": round(median_ms(lambda: filterbank(waveforms), "cpu"), 1),
        },
    }


def _on_features(changes: Mapping[str, Any], precision: str, compiled: bool) -> Stepper:
    """Steps on features, as in the middle of a training: the ramp over, landing far away."""
    variant = {
        "training.precision": precision,
        "training.compile": compiled,
        "training.sparse_convolutions": False,
        "training.steps": LONG,
        "training.log_every": LONG,
        "methods.adabreg.ramp": 0.0,
    }
    recipe = load_recipe("speech-mini", changes={**changes, **variant})
    stepper = Stepper(recipe, "cpu", SPEAKERS)
    stepper.learner.filterbank = nn.Identity()  # type: ignore[assignment]
    return stepper


def _parts(recipe: ResolvedRecipe, stepper: Stepper, step_ms: float) -> dict[str, float]:
    """The optimizer with and without the sparsity control, and its share of a whole training."""
    method, options = stepper.learner.method, recipe.options
    assert isinstance(method, AdaBregMethod)
    assert isinstance(options, AdaBregOptions)
    optimizer = method.optimizer
    rule, idle = optimizer.lambda_rule, FixedLambda(0.0, every=10**9)
    controlled: list[float] = []
    plain: list[float] = []
    for _ in range(20):
        for chosen, times in ((rule, controlled), (idle, plain)):
            optimizer.lambda_rule = chosen
            times.extend(in_turns([optimizer.step], rule.every, "cpu")[0])
    control = max(float(np.mean(controlled) - np.mean(plain)), 0.0)
    calibration = median_ms(lambda: optimizer.lambda_for(0.9), "cpu")
    share = options.ramp * calibration + (options.landing - options.ramp) * control
    return {
        "optimizer_ms": round(float(np.mean(controlled)), 2),
        "sparsity_control_ms_per_step": round(control, 3),
        "calibration_ms_per_step_of_the_ramp": round(calibration, 2),
        "control_share_of_training": round(share / step_ms, 5),
    }


def main() -> None:
    """Measures and prints JSON."""
    print_measured("training_step", measure)


def print_measured(name: str, measured: Callable[[], Mapping[str, Any]]) -> None:
    """The command line of a benchmark of steps: prints what is measured as JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m sparsify.benchmarks.{name}")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    text = to_json(measured(), indent=1)
    if options.output:
        options.output.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
