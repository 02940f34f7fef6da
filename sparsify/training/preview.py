"""What a run would be, before it is one: its parameters, its data, its time and its memory."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparsify.progress import Track, silent
from sparsify.recipe import Recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.speech.batches import Batch, crop_samples
from sparsify.speech.corpus import Corpus, split_speakers
from sparsify.speech.layouts import load_corpus
from sparsify.speech.synthetic import synthetic_corpus
from sparsify.training.compute import choose_compute
from sparsify.training.data import SYNTHETIC
from sparsify.training.distributed import Processes
from sparsify.training.learner import Learner
from sparsify.training.networks import starting_weights

_MOST_SECONDS = 8.0
_MOST_STEPS = 5


def preview(
    recipe: Recipe,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    track: Track = silent,
) -> dict[str, Any]:
    """Describes a run without writing anything.

    The audio's headers are read, and a few steps are taken, uncompiled, on noise of the right
    shape.

    Args:
        recipe: What would be trained.
        device: Where.
        track: Shows the progress of reading.

    Returns:
        `parameters` (counts), `data` (what was found) and `estimate`: seconds of a step and of all
        steps without loading, validation and compilation; bytes of weights, gradients, optimizer
        state and activations kept for the backward pass, and the most memory in all (on a GPU as
        measured, else the sum).

    Raises:
        SparsifyError: The recipe or the data are unusable.
    """
    compute = choose_compute(device, recipe.training.precision)
    corpus = _corpus(recipe, track)
    train, held_out = split_speakers(corpus, recipe.data.validation_speakers, recipe.seed)
    recipe = recipe.model_copy(
        update={"training": recipe.training.model_copy(update={"compile": False})}
    )
    start = starting_weights(recipe)
    learner = Learner(recipe, compute, Processes(), len(train.speakers), start)
    return {
        "parameters": _parameters(learner.network, learner.objective, recipe),
        "data": {
            "path": recipe.data.path,
            "speakers": len(train.speakers),
            "utterances": len(train.utterances),
            "hours": round(train.seconds / 3600, 3),
            "validation_speakers": len(held_out.speakers),
            "validation_utterances": len(held_out.utterances),
            "skipped": len(corpus.skipped),
            "steps_per_epoch": round(len(train.utterances) / recipe.training.batch_size, 2),
        },
        "estimate": _estimate(learner, track),
    }


def _corpus(recipe: Recipe, track: Track) -> Corpus:
    if recipe.data.path != SYNTHETIC:
        return load_corpus(recipe.data.path, layout=recipe.data.layout, track=track)
    corpus, _ = synthetic_corpus(
        recipe.data.synthetic_speakers,
        recipe.data.synthetic_utterances,
        seed=recipe.seed,
        sample_rate=recipe.front_end.sample_rate,
        track=track,
    )
    return corpus


def _parameters(network: nn.Module, objective: nn.Module, recipe: Recipe) -> dict[str, int]:
    """How many parameters may become zero, were protected from it, or are never zeroed."""
    all_prunable = sum(p.numel() for p in prunable_parameters(network).values())
    prunable = sum(p.numel() for p in prunable_parameters(network, recipe.model.ignore).values())
    total = sum(p.numel() for p in network.parameters())
    return {
        "total": total,
        "prunable": prunable,
        "protected": all_prunable - prunable,
        "free": total - all_prunable,
        "training_only": sum(p.numel() for p in objective.parameters()),
    }


def _estimate(learner: Learner, track: Track) -> dict[str, Any]:
    recipe = learner.recipe
    last, begins = recipe.training.steps, recipe.large_margin_begins
    phases = [phase for phase in ((1, begins), (begins + 1, last)) if phase[0] <= phase[1]]
    seconds, slowest, kept = 0.0, 0.0, 0
    for first, final in track(phases, "Timing steps", len(phases)):
        batch = _noise(learner, crop_samples(recipe, first - 1))
        learner.update(first, batch)
        step_seconds = _time_of_a_step(learner, first, batch)
        seconds += (final - first + 1) * step_seconds
        slowest = max(slowest, step_seconds)
        kept = max(kept, _kept_for_backward(learner, batch))
    parameters = [*learner.network.parameters(), *learner.objective.parameters()]
    state = learner.method.optimizer.state.values()
    sizes = {
        "weight_bytes": _bytes(parameters),
        "gradient_bytes": _bytes(p.grad for p in parameters if p.grad is not None),
        "optimizer_bytes": _bytes(
            v for own in state for v in own.values() if isinstance(v, Tensor)
        ),
        "activation_bytes": kept,
    }
    device = learner.compute.device
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else sum(sizes.values())
    return {
        "device": str(learner.compute),
        "step_seconds": round(slowest, 4),
        "training_seconds": round(seconds, 1),
        **sizes,
        "memory_bytes": peak,
    }


def _noise(learner: Learner, samples: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    crops, speeds = len(learner.places), learner.recipe.speeds
    label = learner.speakers * speeds.index(1.0) if 1.0 in speeds else 0
    return 0.1 * torch.randn(crops, samples, generator=generator), torch.full((crops,), label)


def _time_of_a_step(learner: Learner, step: int, batch: Batch) -> float:
    device = learner.compute.device
    start = time.perf_counter()
    elapsed, count = 0.0, 0
    while count < _MOST_STEPS and elapsed < _MOST_SECONDS:
        learner.update(step, batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        count += 1
        elapsed = time.perf_counter() - start
    return elapsed / count


def _kept_for_backward(learner: Learner, batch: Batch) -> int:
    """Bytes that the forward pass of a micro-batch keeps, besides the weights, for the backward."""
    waveforms, labels = batch
    feats = next(learner.features(waveforms))
    labels = labels[: len(feats)].to(feats.device)
    targets = learner.teacher(feats) if learner.teacher else None
    weights = {p.untyped_storage().data_ptr() for p in learner.model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        values = learner.model(feats, labels, targets)
    del values  # alive until here, so that no two tensors shared an address
    return sum(kept.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
