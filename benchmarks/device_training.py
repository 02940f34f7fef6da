"""Whole trainings on a device: to 90 % sparsity on speech, and in fp16 with overflows.

Two parts of the device check.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsify import load_model
from sparsify.benchmarks.device_part import Row, Setting, attempt, failed, skipped
from sparsify.methods.bregman import AdaBregMethod
from sparsify.methods.registry import resolve
from sparsify.recipe.recipe import Recipe, load_recipe
from sparsify.recipe.words import SYNTHETIC
from sparsify.sparsity.costs import zeros_wanted
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.training.compute import choose_compute
from sparsify.training.distributed import Processes
from sparsify.training.learner import Learner
from sparsify.training.starting_network import start_of
from sparsify.training.trainer import train
from sparsify.verification.embedding import Embedder
from sparsify.verification.evaluate import evaluate
from sparsify.verification.trials import read_trials

VARIABLE = "SPARSIFY_SPEECH_MINI"
SPARSITY = 0.9
_SPEAKERS, _BATCH = 8, 32
_FORCED_EVERY, _TOO_LARGE = 5, 2.0**60  # steps whose loss is scaled too much


def device_rows(setting: Setting) -> Iterator[Row]:
    """The part of the device check on speech: speech-mini if it is there, else synthetic."""
    yield attempt(*_run("ECAPA-TDNN-1024", "auto", setting))


def fp16_rows(setting: Setting) -> Iterator[Row]:
    """The part of the device check in fp16: with overflows that are forced, and as it is."""
    name = "ECAPA-TDNN-512"
    head = {"network": name, "precision": "fp16", "data": "noise"}
    yield attempt(head, partial(_with_overflows, setting, name))
    head, run = _run(name, "fp16", setting)
    yield attempt(head, run) if setting.cuda else head | skipped("training in fp16 needs a GPU")


def _run(name: str, precision: str, setting: Setting) -> tuple[Row, Callable[[], Row]]:
    """What a training is about, and the training."""
    folder = os.environ.get(VARIABLE)
    speech = Path(folder) if folder else None
    head = {"network": name, "precision": precision, "data": "speech-mini" if speech else SYNTHETIC}
    return head, partial(_trained, setting, name, precision, speech)


def _trained(setting: Setting, name: str, precision: str, speech: Path | None) -> Row:
    network = setting.network(name)
    changes: dict[str, Any] = {
        "model.name": network.name,
        "model.options": network.options,
        "data.path": str(speech / "train") if speech else SYNTHETIC,
        "training.precision": precision,
        "training.steps": 400,
        "training.validate_every": 200,
        "training.compile": False,
        "methods.adabreg.lr": 0.003,  # the recipe's is for a network of an eighth of the width
    }
    if setting.toy:
        changes |= {
            "data.path": SYNTHETIC,
            "data.synthetic_speakers": 5,
            "data.synthetic_utterances": 2,
            "data.validation_speakers": 2,
            "data.crop_seconds": 0.3,
            "training.steps": 8,
            "training.batch_size": 4,
            "training.workers": 0,
            "training.batch_norm_batches": 1,
        }
    device: Any = setting.device
    with TemporaryDirectory() as folder:
        run = Path(folder, "run")
        recipe = load_recipe("speech-mini", changes=changes)
        summary = train(recipe, run, device=device)
        model = load_model(run).to(device)
        names = ("sparsity", "eer_percent", "steps", "seconds", "data_wait_seconds", "overflows")
        row = {name: summary[name] for name in names} | _zeros(prunable_parameters(model))
        if speech and not setting.toy:
            row["test_eer_percent"] = _test_eer(_embedder(model, setting.device), recipe, speech)
    if row["zeros"] != row["zeros_wanted"]:
        row |= failed(f"{row['zeros']} weights are zero instead of {row['zeros_wanted']}")
    return row


def _zeros(weights: dict[str, Any]) -> Row:
    size = sum(weight.numel() for weight in weights.values())
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    return {"zeros": zeros, "zeros_wanted": zeros_wanted(size, SPARSITY)}


def _embedder(model: torch.nn.Module, device: str) -> Embedder:
    model.eval()

    def embed(feats: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model(torch.from_numpy(feats)[None].to(device))[0].float().cpu().numpy()

    return embed


def _test_eer(embedder: Embedder, recipe: Recipe, speech: Path) -> float:
    trials = read_trials(speech / "trials.txt")
    return evaluate(embedder, trials, speech / "test", recipe.front_end).eer_percent


def _with_overflows(setting: Setting, name: str) -> Row:
    """Trains past landing, the scale of the loss being too large again and again."""
    network = setting.network(name)
    steps = 30 if setting.toy else 120
    changes = {
        "model.name": network.name,
        "model.options": network.options,
        "data.crop_seconds": 0.3 if setting.toy else 2.0,
        "training.steps": steps,
        "training.batch_size": 4 if setting.toy else _BATCH,
        "training.compile": False,
        "methods.adabreg.landing": 0.4,
        "methods.adabreg.lr": 0.001,
    }
    if setting.toy:  # gradients of a tiny network that is nearly empty do not fit into fp16
        changes["methods.adabreg.initial_sparsity"] = 0.5
    recipe = resolve(load_recipe("speech-mini", changes=changes))
    device: Any = setting.device
    # A CPU computes in fp16 too, so slowly that no recipe may ask for it.
    compute = replace(choose_compute(device, "fp32"), precision="fp16")
    torch.manual_seed(0)
    learner = Learner(recipe, compute, Processes(), _SPEAKERS, start_of(recipe))
    learner.scaler = torch.amp.GradScaler(setting.device, init_scale=2.0**10)
    method = learner.method
    assert isinstance(method, AdaBregMethod)
    changed = revived = 0
    landed_at = None
    for step in range(1, steps + 1):
        before, landed = _weights(learner), method.optimizer.landed
        overflows, scale = learner.overflows, learner.scaler.get_scale()
        forced = step % _FORCED_EVERY == 0
        if forced:
            learner.scaler.update(_TOO_LARGE)
        learner.update(step, _noise(recipe, step))
        if forced:
            learner.scaler.update(scale)
        after = _weights(learner)
        if learner.overflows > overflows:
            changed += int((before != after).sum())
        if landed:
            landed_at = landed_at or step - 1
            revived += int(((before == 0) & (after != 0)).sum())
    method.finish()
    state = [t for each in method.optimizer.state.values() for t in each.values()]
    parameters = [*learner.network.parameters(), *learner.objective.parameters(), *state]
    finite = all(bool(tensor.isfinite().all()) for tensor in parameters)
    row: Row = {
        "steps": steps,
        "landed_at": landed_at,
        "forced": steps // _FORCED_EVERY,
        "overflows": learner.overflows,
        "changed_by_overflow": changed,
        "revived_after_landing": revived,
        "finite": finite,
        "scale": learner.scaler.get_scale(),
    } | _zeros(prunable_parameters(learner.network))
    return row | _complaints(row)


def _complaints(row: Row) -> Row:
    faults = {
        "it never landed": row["landed_at"] is None,
        "not every overflow was seen": row["overflows"] < row["forced"],
        "an overflow changed weights": row["changed_by_overflow"],
        "weights that landing holds at zero came back": row["revived_after_landing"],
        "weights or state are not finite": not row["finite"],
        "the sparsity is not the target": row["zeros"] != row["zeros_wanted"],
    }
    found = [fault for fault, there in faults.items() if there]
    return failed("; ".join(found)) if found else {}


def _weights(learner: Learner) -> Tensor:
    weights = prunable_parameters(learner.network).values()
    return torch.cat([weight.detach().flatten() for weight in weights])


def _noise(recipe: Recipe, step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    size = recipe.training.batch_size
    samples = round(recipe.data.crop_seconds * recipe.front_end.sample_rate)
    waveforms = 0.1 * torch.randn(size, samples, generator=generator)
    return waveforms, torch.randint(_SPEAKERS, (size,), generator=generator)
