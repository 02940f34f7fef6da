"""`sparsify train`: resolves the recipe, runs the training and shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from sparsify.artifact import load_artifact
from sparsify.cli.display import (
    console,
    emit_json,
    json_option,
    out,
    track,
    verbosity_options,
)
from sparsify.cli.training_display import training_display
from sparsify.errors import SparsifyError
from sparsify.methods.registry import method_names, method_options
from sparsify.models.registry import model_names
from sparsify.recipe import Recipe, load_recipe, recipe_names
from sparsify.report.page import REPORT_FILE, write_report
from sparsify.training.run_directory import RunDirectory
from sparsify.training.trainer import train

_EPILOG = """\b
Examples:
  sparsify train --output run                      # synthetic speakers, 90 %
  sparsify train --data speech/train --target-sparsity 0.95 --output run
  sparsify train --data speech/train --method gmp --set training.steps=2000 --output run
  sparsify train --data speech/train --init-from dense-run --output sparse-run
"""


@click.command("train", epilog=_EPILOG)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="A shipped recipe or a YAML file; quickstart for synthetic speakers, else speech-mini."
    f" Shipped: {', '.join(recipe_names())}.",
)
@click.option(
    "--data", metavar="PATH|synthetic", help="Folder with one folder of audio files per speaker."
)
@click.option(
    "--model",
    metavar="NAME|module:factory",
    help=f"Architecture: {', '.join(model_names())}, or your own.",
)
@click.option(
    "--init-from",
    metavar="PATH",
    help="Start from the weights of a run directory, an artifact or a .pt state dict.",
)
@click.option("--method", help=f"Way to get sparse: {', '.join(method_names())}.")
@click.option(
    "--target-sparsity", type=float, help="Share of exact zeros among the prunable weights."
)
@click.option(
    "--lambda-rule",
    type=click.Choice(["adaptive", "quantile", "smoothed", "fixed"]),
    help="How λ is steered (Bregman methods).",
)
@click.option("--seed", type=int, help="Seed of everything random.")
@click.option(
    "--set", "assignments", multiple=True, metavar="key=value", help="Override a recipe key."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("run"),
    show_default=True,
    help="The run directory.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --output from its checkpoint.")
@click.option("--strict", is_flag=True, help="Stop at a broken audio file instead of skipping it.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and stop.")
@json_option
@verbosity_options
def train_command(
    *,
    recipe: str | None,
    assignments: Sequence[str],
    output: Path,
    resume: bool,
    strict: bool,
    device: Literal["auto", "cpu", "cuda"],
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train a speaker model to an exact sparsity."""
    resolved = _resumed(output, recipe, assignments, flags) if resume else None
    if resolved is None:
        resolved = _resolve(recipe, assignments, flags)
    if dry_run:
        method_options(resolved)
        emit_json(resolved.model_dump(mode="json")) if as_json else out.print(
            resolved.to_yaml(), markup=False, end=""
        )
        return
    finished = RunDirectory(output).summary() if resume else None
    if finished is not None:
        console.print(f"'{output}' is complete; nothing is left to do.", markup=False)
        summary = finished
    else:
        with training_display(console) as observer:
            summary = train(
                resolved,
                output,
                device=device,
                resume=resume,
                strict=strict,
                observer=observer,
                track=track,
            )
        write_report([output], output / REPORT_FILE)
    if as_json:
        emit_json(summary)
    else:
        _report(summary)


def _resolve(recipe: str | None, assignments: Sequence[str], flags: dict[str, Any]) -> Recipe:
    changes = {
        key: flags[flag]
        for flag, key in (
            ("data", "data.path"),
            ("method", "method"),
            ("target_sparsity", "target_sparsity"),
            ("seed", "seed"),
        )
        if flags[flag] is not None
    }
    if flags["model"] is not None:  # the recipe's options are those of another network
        assignments = [f"model.name={flags['model']}", "model.options={}", *assignments]
    if flags["init_from"] is not None:
        assignments = [*_started_from(flags["init_from"]), *assignments]
    if recipe is None:
        synthetic = changes.get("data.path", "synthetic") == "synthetic"
        recipe = "quickstart" if synthetic else "speech-mini"
    resolved = load_recipe(recipe, assignments, changes)
    if flags["lambda_rule"] is not None:
        key = f"methods.{resolved.method}.lambda_rule"
        resolved = load_recipe(recipe, assignments, changes | {key: flags["lambda_rule"]})
    return resolved


def _started_from(path: str) -> list[str]:
    """The assignments that fit a recipe to a model: its network and front end, if it knows them."""
    artifact = load_artifact(path)
    changes: dict[str, Any] = {"model.init_from": path}
    if artifact.architecture is not None:
        changes["model.name"] = artifact.architecture.name
        changes["model.options"] = dict(artifact.architecture.options)
        changes["front_end"] = artifact.front_end.model_dump(mode="json")
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def _resumed(
    output: Path, recipe: str | None, assignments: Sequence[str], flags: dict[str, Any]
) -> Recipe:
    """The saved recipe; options given again must agree with it."""
    saved = RunDirectory(output).saved_recipe()
    context = click.get_current_context()
    given = [
        name
        for name in (*flags, "recipe", "assignments")
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]
    if given and _resolve(recipe, assignments, flags) != saved:
        raise SparsifyError(
            f"the run in '{output}' was started with other settings than given now:"
            " resume it with --output and --resume alone"
        )
    return saved


def _report(summary: dict[str, Any]) -> None:
    out.print(
        f"[bold]{summary['method']}[/]: sparsity [bold]{summary['sparsity']:.2%}[/]"
        f" (whole model {summary['global_sparsity']:.2%}),"
        f" validation EER [bold]{summary['eer_percent']:.2f} %[/],"
        f" minDCF {summary['min_dcf']:.3f},"
        f" {summary['nonzero']:,} of {summary['parameters']:,} parameters left,"
        f" {summary['seconds']:.0f} s"
    )
    out.print(f"Saved to {summary['output']}", markup=False)
