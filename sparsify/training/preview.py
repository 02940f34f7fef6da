"""What a run would be, before it is one: its parameters, its data, its time and its memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsify.audio.parallel import in_threads
from sparsify.corpus.corpus import Corpus, Skipped, usable_corpus
from sparsify.methods.registry import ResolvedRecipe, check_start
from sparsify.progress import Track, silent
from sparsify.recipe.recipe import Recipe
from sparsify.sparsity.prunable import prunable_parameters
from sparsify.sparsity.table import left_dense
from sparsify.training.batches import Batch, crop_samples
from sparsify.training.compute import choose_compute
from sparsify.training.data import find_corpus, warn_of_long_crops
from sparsify.training.devices import Device
from sparsify.training.distributed import Processes, processes
from sparsify.training.event_files import check_event_files
from sparsify.training.learner import Learner
from sparsify.training.records import start_record
from sparsify.training.starting_network import start_of
from sparsify.training.validation_speech import listed_trials, split

_MOST_SECONDS = 8.0
_MOST_STEPS = 5
_MOST_FILES = 5000  # seconds even on a slow network drive


def preview(
    recipe: ResolvedRecipe,
    *,
    device: Device = "auto",
    strict: bool = False,
    trust: bool = False,
    track: Track = silent,
) -> dict[str, Any]:
    """Describes a run without writing anything.

    The audio's headers are read, or a sample of the files looked for where a list tells durations,
    and a few steps are taken, uncompiled, on noise of the right shape. Of processes that
    `torch.distributed` has joined, the first alone calls this.

    Args:
        recipe: What would be trained.
        device: Where.
        strict: Treat unusable audio files as errors instead of leaving them out.
        trust: Whether the file of a teacher may name code as its network.
        track: Shows the progress of reading.

    Returns:
        `parameters` (counts), `multiply_adds` where they are the target, `start` (the trained model
        that it starts from, if any), `data` (what was found) and `estimate`, all of it for one
        process: seconds of a step and of all steps without loading, validation, compilation and
        exchange of gradients; bytes of weights, gradients, optimizer state and activations kept for
        the backward pass, and the most memory in all (on a GPU as measured, else the sum).

    Raises:
        SparsifyError: The recipe or the data are unusable.
    """
    check_event_files(recipe)
    compute, together = choose_compute(device, recipe.training.precision), processes()
    share = _share(recipe, together)
    start = start_of(share)
    check_start(share, start.task(share, nn.Identity()))
    corpus, audio = find_corpus(recipe, strict=strict, track=track)
    looked_at = missing = 0
    if audio is None:
        corpus, looked_at, missing = _without_missing(corpus, recipe.seed, strict, track)
    train, held_out = split(corpus, recipe)
    validated = held_out.utterances if held_out else listed_trials(recipe, train)[0].utterances
    warn_of_long_crops(recipe, train)
    learner = Learner(share, compute, Processes(), len(train.speakers), start, trust=trust)
    table = learner.sparsity()
    return {
        "parameters": _parameters(learner.network, learner.objective, recipe),
        "left_dense": [layer.to_json() for layer in left_dense(table, recipe.model.ignore)],
        **_multiply_adds(learner),
        **start_record(learner),
        "data": {
            "path": recipe.data.path,
            "speakers": train.named_speakers,
            "utterances": len(train.utterances),
            "hours": round(train.seconds / 3600, 3),
            "validation_speakers": len(held_out.speakers) if held_out else 0,
            "validation_utterances": len(validated),
            "skipped": len(corpus.skipped),
            "files_looked_at": looked_at,
            "files_missing": missing,
            "steps_per_epoch": round(len(train.utterances) / recipe.training.batch_size, 2),
        },
        "estimate": {"processes": together.count, **_estimate(learner, track)},
    }


def _without_missing(
    corpus: Corpus, seed: int, strict: bool, track: Track
) -> tuple[Corpus, int, int]:
    """The corpus without files that are not there, how many were looked for, and how many missed.

    Only so many are looked for, drawn at random; nobody has when a list told their durations.
    """
    utterances = corpus.utterances
    drawn = np.random.default_rng(seed).permutation(len(utterances))[:_MOST_FILES].tolist()
    there = np.ones(len(utterances), dtype=bool)
    there[drawn] = list(
        in_threads(
            lambda place: os.path.isfile(utterances[place].path), drawn, track, "Looking for files"
        )
    )
    if there.all():
        return corpus, len(drawn), 0
    missing = [Skipped(u.place, "no such file") for u in utterances.where(~there)]
    found = usable_corpus(
        utterances.where(there), [*corpus.skipped, *missing], layout=corpus.layout, strict=strict
    )
    return found, len(drawn), len(missing)


def _share(recipe: ResolvedRecipe, together: Processes) -> ResolvedRecipe:
    """The recipe of what one of several processes computes, uncompiled."""
    training = recipe.in_pieces(together.count).training
    places, pieces = together.shared(training.batch_size, training.micro_batches)
    update = {"batch_size": len(places), "micro_batches": pieces, "compile": False}
    return recipe.model_copy(update={"training": training.model_copy(update=update)})


def _parameters(network: nn.Module, objective: nn.Module, recipe: Recipe) -> dict[str, int]:
    """How many parameters may become zero, were protected from it, or are never zeroed."""
    ignore, include = recipe.model.selection
    all_prunable = sum(p.numel() for p in prunable_parameters(network, (), include).values())
    prunable = sum(p.numel() for p in prunable_parameters(network, ignore, include).values())
    total = sum(p.numel() for p in network.parameters())
    return {
        "total": total,
        "prunable": prunable,
        "protected": all_prunable - prunable,
        "free": total - all_prunable,
        "training_only": sum(p.numel() for p in objective.parameters()),
    }


def _multiply_adds(learner: Learner) -> dict[str, Any]:
    """Those of the dense network and how many are wanted, where they are the target."""
    work, share = learner.multiply_adds, learner.recipe.target_macs
    if work is None or share is None:
        return {}
    return {"multiply_adds": {"dense": work.total, "wanted": int(share * work.total)}}


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
    feats, targets = next(learner.examples(waveforms))
    labels = labels[: len(feats)].to(feats.device)
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
