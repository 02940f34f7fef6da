"""`sparsify train`: resolves the recipe, runs the training and shows it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sparsify.artifact.loading import load_artifact
from sparsify.cli.display import GateError, console, emit_json, out, say, say_next, track
from sparsify.cli.preview_display import show_preview
from sparsify.cli.recipe_options import described_recipe
from sparsify.cli.training_display import averaged_models, training_display
from sparsify.comparison.gathering import Part, gather
from sparsify.errors import SparsifyError
from sparsify.exporters.counting import count_work
from sparsify.methods.names import method_names
from sparsify.methods.registry import ResolvedRecipe, option_names, pursues_target, resolve
from sparsify.models.names import names_code
from sparsify.models.registry import require_trust
from sparsify.progress import phase
from sparsify.report.page import REPORT_FILE, write_report
from sparsify.training.devices import Device
from sparsify.training.distributed import Joined, Processes
from sparsify.training.origin import changes, settings_of, some_of
from sparsify.training.preview import preview
from sparsify.training.run_directory import RunDirectory
from sparsify.training.starting_network import with_target_of_start
from sparsify.training.trainer import train

LOGGER = logging.getLogger("sparsify")
_TARGETS = ("target_sparsity", "target_macs")


def run(
    *,
    output: Path,
    resume: bool,
    accept_changes: bool,
    strict: bool,
    device: Device,
    trust: bool,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """What `sparsify train` does."""
    with Joined() as together:
        if not together.main:
            console.quiet = True
            LOGGER.setLevel(max(LOGGER.level, logging.WARNING))
        if resume:
            recipe = together.from_main(lambda: _resumed(output, given, trust))
        else:
            recipe = resolved_recipe(given, trust)
        if dry_run:
            if together.main:
                if not resume:
                    RunDirectory(output).check_free()
                foreseen = preview(recipe, device=device, strict=strict, trust=trust, track=track)
                content = {"recipe": recipe.model_dump(mode="json"), **foreseen}
                emit_json(content) if as_json else show_preview(out, recipe, foreseen)
            return
        finished = together.from_main(RunDirectory(output).complete) if resume else None
        if finished is not None:
            console.print(f"'{output}' is complete; nothing is left to do.", markup=False)
            summary = finished
        else:
            with _says_how_to_resume(output, together), training_display(console) as observer:
                summary = train(
                    recipe,
                    output,
                    device=device,
                    resume=resume,
                    accept_changes=accept_changes,
                    strict=strict,
                    trust=trust,
                    observer=observer,
                    track=track,
                )
        if together.main:
            if finished is None or not (output / REPORT_FILE).exists():
                with phase(track, "writing the report"):
                    write_page(output)
                    if not names_code(recipe.model.name):
                        count_work(load_artifact(output))  # `inspect` then takes no torch
            emit_json(summary) if as_json else _report(summary, output, recipe)
            if collapsed := summary.get("collapsed"):
                raise GateError(f"the model has collapsed: {collapsed}")


@contextmanager
def _says_how_to_resume(output: Path, together: Processes) -> Iterator[None]:
    """At an interruption of a run that has begun."""
    try:
        yield
    except KeyboardInterrupt:
        run = RunDirectory(output)
        if together.main and run.recipe_file.is_file():
            since = "the last validation" if run.resumable else "the first step"
            command = shlex.join(["sparsify", "train", "--output", str(output), "--resume"])
            console.print(f"Continue with: {command} (from {since})", soft_wrap=True)
        raise


def resolved_recipe(
    given: dict[str, Any], trust: bool, settings: Mapping[str, Any] | None = None
) -> ResolvedRecipe:
    """The recipe that options describe.

    Args:
        given: The options by name.
        trust: Whether the model to start from may name code as its network.
        settings: Dotted keys of the recipe and their values, which options override.

    Raises:
        SparsifyError: They do not fit together, or a file cannot be read or is not trusted.
    """
    keys = ("method", *_TARGETS, "seed")
    changes = {key: given[key] for key in keys if given[key] is not None}
    if any(target in changes for target in _TARGETS):
        changes = dict.fromkeys(_TARGETS) | changes
    recipe = with_target_of_start(
        described_recipe(given, dict(settings or {}) | changes, trust=trust)
    )
    _check_target(recipe.method, [key for key in changes if changes[key] is not None])
    if given["lambda_rule"] is not None:
        method = recipe.method
        _check_lambda_rule(method)
        options = recipe.methods.get(method, {}) | {"lambda_rule": given["lambda_rule"]}
        recipe = recipe.model_copy(update={"methods": recipe.methods | {method: options}})
    return resolve(recipe)


def write_page(output: Path) -> None:
    """Writes the report of a run into its directory."""
    write_report(gather([Part(output)]), output / REPORT_FILE)


def _check_target(method: str, given: Collection[str]) -> None:
    """Checks that a method that prunes nothing, if it is one, was given no target."""
    for target in {*_TARGETS} & {*given}:
        if method in method_names() and not pursues_target(method):
            raise SparsifyError(
                f"method '{method}' prunes nothing, and holds the zeros of a sparse --init-from:"
                f" leave --{target.replace('_', '-')} away, or choose another --method"
            )


def _check_lambda_rule(method: str) -> None:
    """Checks that a method, if there is such a one, steers λ by a rule that can be chosen."""
    with_rule = [name for name in method_names() if "lambda_rule" in option_names(name)]
    if method in method_names() and method not in with_rule:
        raise SparsifyError(
            f"method '{method}' has no λ rule: leave --lambda-rule away, or choose one of"
            f" {', '.join(with_rule)}"
        )


def _resumed(output: Path, given: dict[str, Any], trust: bool) -> ResolvedRecipe:
    """The saved recipe; options given again must agree with it."""
    saved = resolve(RunDirectory(output).saved_recipe())
    context = click.get_current_context()
    # A run that several processes began has a micro-batch for each, whatever was given.
    pieces = saved.training.micro_batches
    if all(context.get_parameter_source(name) is ParameterSource.DEFAULT for name in given):
        require_trust(saved.model.name, f"'{output}'", trust=trust)
        return saved
    asked = resolved_recipe(given, trust).in_pieces(pieces)
    if asked != saved:
        changed = some_of(changes(settings_of(saved), settings_of(asked)))
        raise SparsifyError(
            f"the run in '{output}' was started with other settings than given now ({changed}):"
            " resume it with --output and --resume alone"
        )
    return saved


def _report(summary: dict[str, Any], output: Path, recipe: ResolvedRecipe) -> None:
    """The outcome of a run, and what to do with it."""
    try:
        lines = list(_outcome(summary, output))
    except (LookupError, TypeError, ValueError) as error:  # of a run that was complete already
        raise SparsifyError(
            f"'{RunDirectory(output).summary_file}' is damaged: delete it and finish the run with"
            f" --resume ({error!r})"
        ) from error
    out.print(lines[0], markup=True)
    for line in lines[1:]:
        say(line)
    if summary.get("collapsed"):
        return  # which is told in the end
    kept = (summary.get("start") or {}).get("zeros")
    if pursues_target(recipe.method) or recipe.model.widths or kept:
        say_next("export", output, "--format", "onnx", "--output", f"{output}.onnx")
    else:
        data = recipe.data.path
        say_next("train", "--data", data, "--init-from", output, "--output", f"{output}-sparse")


def _macs(summary: dict[str, Any]) -> str:
    if "macs" not in summary:
        return ""
    return f" [bold]{summary['macs']:.3%}[/] of the multiply-adds,"


def _outcome(summary: dict[str, Any], output: Path) -> Iterator[str]:
    """The outcome of a run in a few lines, the first with markup."""
    yield (
        f"[bold]{summary['method']}[/]: sparsity [bold]{summary['sparsity']:.2%}[/]"
        f" (whole model {summary['global_sparsity']:.2%}),{_macs(summary)}"
        f" validation EER [bold]{summary['eer_percent']:.2f}%[/],"
        f" minDCF {summary['min_dcf']:.3f},"
        f" {summary['nonzero']:,} of {summary['parameters']:,} parameters left,"
        f" {summary['seconds']:.0f} s"
    )
    average = summary.get("average")
    if average and average["selected"]:
        yield f"It is the {averaged_models(average)}."
    if changed := summary.get("changed_at_resume"):
        yield f"Changed at a resume: {', '.join(changed)}."
    yield f"Saved to {output}, with {REPORT_FILE}"
