"""`sparsify plan`: which sparsity fits a budget of milliseconds, bytes or multiply-adds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.formats import STORE, Format, format_named, written
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.benchmarks.inference.budget import (
    MAX_BYTES,
    MAX_MACS,
    MAX_MS,
    Budget,
    sparsity_for,
)
from sparsify.cli.display import emit_json, track
from sparsify.cli.gates import decide, verdict_alone
from sparsify.cli.plan_display import gates_of, plan_json, show_plan
from sparsify.cli.recipe_options import described_recipe
from sparsify.errors import SparsifyError
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.networks import PYTORCH
from sparsify.models.registry import Architecture

_MODEL_FILE = f"model{STORE.suffixes[0]}"


def run(
    *,
    model: str,
    format_name: str,
    max_ms: float | None,
    max_bytes: float | None,
    max_macs: float | None,
    precision: str,
    threads: int,
    frames: int,
    assignments: Sequence[str],
    trust: bool,
    as_json: bool,
) -> None:
    """What `sparsify plan` does."""
    given = {MAX_MS: max_ms, MAX_BYTES: max_bytes, MAX_MACS: max_macs}
    limits = {name: most for name, most in given.items() if most is not None}
    format_ = format_named(format_name)
    _check_engine(format_)
    format_.check_precision(precision)
    if precision in format_.quantising:
        raise SparsifyError(
            f"{precision} in {format_.name} takes speech, which random masks are not trained on:"
            " leave out --precision, or plan another format"
        )
    with TemporaryDirectory() as folder:
        artifact = _artifact(model, assignments, Path(folder), trust=trust)
        budget = sparsity_for(
            artifact,
            format_,
            limits,
            precision=precision,
            threads=threads,
            frames=frames,
            track=track,
        )
    command, gates = _command(model, assignments, budget, limits), gates_of(budget, limits)
    if as_json:
        emit_json(plan_json(model, format_name, budget, limits, command))
    elif not verdict_alone(gates):
        show_plan(model, format_name, budget, limits, command)
    decide(gates, as_json=as_json)


def _check_engine(format_: Format) -> None:
    """Refuses a format whose files run in PyTorch, which gains nothing from zeros."""
    if exporter_of(format_).engine == PYTORCH:
        others = [each.name for each in written() if exporter_of(each).engine != PYTORCH]
        raise SparsifyError(
            f"--format {format_.name} has no engine of its own to measure: give"
            f" {', '.join(others[:-1])} or {others[-1]}"
        )


def _artifact(model: str, assignments: Sequence[str], folder: Path, *, trust: bool) -> Artifact:
    """The model at a path, or one of that name with random weights.

    Raises:
        SparsifyError: It cannot be read or built.
    """
    if Path(model).exists():
        if assignments:
            raise SparsifyError(f"--set goes with the name of a model: '{model}' is a file")
        return load_artifact(model, trust=trust)
    recipe = described_recipe({"model": model, "assignments": assignments}, trust=True)
    torch.manual_seed(recipe.seed)
    network = Architecture(recipe.model.name, recipe.model.options, recipe.model.widths).build()
    save_model(network, folder / _MODEL_FILE, recipe)
    return load_artifact(folder / _MODEL_FILE, trust=True)


def _command(
    model: str, assignments: Sequence[str], budget: Budget, limits: Mapping[str, float]
) -> str | None:
    """What trains a model that fits; multiply-adds alone are a target by themselves."""
    if budget.answer is None or not budget.answer.sparsity:
        return None
    start = ["--init-from"] if Path(model).exists() else ["--model"]
    sets = [word for each in assignments for word in ("--set", each)]
    target = ["--target-sparsity", f"{budget.answer.sparsity:.4f}".rstrip("0")]
    if limits.keys() == {MAX_MACS}:
        target = ["--target-macs", f"{limits[MAX_MACS]:g}"]
    words = ["sparsify", "train", *start, model, *sets, *target]
    names = chain(["run"], (f"run-{number}" for number in count(2)))
    free = next(name for name in names if not Path(name).exists())
    return shlex.join([*words, "--data", "DIR", "--output", free])
