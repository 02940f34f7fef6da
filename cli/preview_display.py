"""What a person sees of `train --dry-run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console

from sparsify.cli.display import human_bytes
from sparsify.cli.training_display import named_speakers, start_in_words
from sparsify.recipe.layout import abridged, to_yaml
from sparsify.recipe.recipe import Recipe
from sparsify.sparsity.work import SPEECH_SECONDS


def show_preview(console: Console, recipe: Recipe, preview: dict[str, Any]) -> None:
    """Prints the resolved recipe, and what a run with it would be as comments of the YAML."""
    parameters, data, estimate = (preview[key] for key in ("parameters", "data", "estimate"))
    together = estimate["processes"]
    alone, each = "without", ""
    if together > 1:
        alone = f"each of {together} processes by itself, without exchanging gradients,"
        each = f" in each of {together} processes"
    validated = f"{held_out} speakers, " if (held_out := data["validation_speakers"]) else ""
    looked_at, missing = data["files_looked_at"], data["files_missing"]
    files = f"; {missing:,} of {looked_at:,} files looked at are missing" if looked_at else ""
    lines = [
        f"parameters: {parameters['total']:,}: {parameters['prunable']:,} prunable,"
        f" {parameters['protected']:,} protected, {parameters['free']:,} free"
        f" ({_free(preview['left_dense'])});"
        f" {parameters['training_only']:,} more in training only",
        f"data: {named_speakers(data)}, {data['utterances']:,} utterances,"
        f" {data['hours']:.2f} h to train ({data['steps_per_epoch']:g} steps per epoch),"
        f" {validated}{data['validation_utterances']:,} utterances to"
        f" validate, {data['skipped']} files skipped{files}",
        f"time: {timedelta(seconds=round(estimate['training_seconds']))} of steps"
        f" ({estimate['step_seconds']:.3g} s each) on {estimate['device']}, {alone} compiling,"
        " loading and validating",
        f"memory: {human_bytes(estimate['memory_bytes'])}{each} (weights"
        f" {human_bytes(estimate['weight_bytes'])}, gradients"
        f" {human_bytes(estimate['gradient_bytes'])}, optimizer"
        f" {human_bytes(estimate['optimizer_bytes'])}, activations"
        f" {human_bytes(estimate['activation_bytes'])})",
    ]
    if work := preview.get("multiply_adds"):
        lines.insert(
            1,
            f"multiply-adds: {work['dense'] / 1e6:,.1f} M for {SPEECH_SECONDS} s of speech, of"
            f" which {work['wanted'] / 1e6:,.1f} M are wanted",
        )
    if start := preview.get("start"):
        lines.insert(0, start_in_words(start))
    console.print(to_yaml(abridged(recipe.model_dump(mode="json"))), markup=False, end="")
    for line in lines:
        console.print(f"# {line}", markup=False, soft_wrap=True)


def _free(left_dense: Sequence[Mapping[str, Any]]) -> str:
    """What is not pruned, by its kind: large matrices, and the rest."""
    sizes = Counter[str]()
    for layer in left_dense:
        sizes[layer["type"]] += layer["parameters"]
    large = (f"{size:,} of {type_}" for type_, size in sizes.items())
    return ", ".join([*large, "norms, biases"])
