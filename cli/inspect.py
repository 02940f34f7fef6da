"""`sparsify inspect`: where a model is sparse, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.bar import Bar
from rich.table import Table

from sparsify.artifact.artifact import Artifact, load_artifact, weights_table
from sparsify.cli.display import GateError, emit_json, human_bytes, out, track
from sparsify.cli.options import (
    PATH,
    common_options,
    model_argument,
    trial_options,
    trust_option,
)
from sparsify.cli.sensitivity_display import by_sensitivity, show_sensitivity
from sparsify.files import check_writable, size_bytes, zipped_bytes
from sparsify.report.sensitivity_page import write_sensitivity_report
from sparsify.sparsity.table import LayerSparsity, SparsityTable, no_weight_left
from sparsify.verification.sensitivity import LEVELS, model_sensitivity

BY_SENSITIVITY = "sensitivity"
FOR_SENSITIVITY = {
    "trial_list": "--trials",
    "audio_root": "--audio-root",
    "levels": "--level",
    "utterances": "--utterances",
    "report": "--report",
    "trust": "--trust",
}
SORTS: dict[str, Callable[[Any], Any]] = {
    "name": lambda layer: layer.name,
    "size": lambda layer: -layer.parameters,
    "sparsity": lambda layer: -layer.sparsity,
}


@click.command(
    "inspect",
    epilog="""\b
    Examples:
      sparsify inspect run
      sparsify inspect model.onnx --json
      sparsify inspect run --min-sparsity 0.9 --quiet
      sparsify inspect run --sensitivity --trials trials.txt --audio-root test
    """,
)
@model_argument()
@click.option(
    "--min-sparsity",
    type=click.FloatRange(0, 1),
    metavar="F",
    help="Fail (exit code 1) when less than this share of the prunable weights is zero.",
)
@click.option(
    "--max-sparsity",
    type=click.FloatRange(0, 1),
    metavar="F",
    help="Fail (exit code 1) when more than this share of the prunable weights is zero.",
)
@click.option(
    "--sort",
    type=click.Choice([*SORTS, BY_SENSITIVITY]),
    help="Order of the layers: by name, largest, sparsest or most sensitive first; as in the model"
    " if not given.",
)
@click.option("--all", "show_all", is_flag=True, help="Show the other parameters, too.")
@click.option(
    "--sensitivity",
    "sensitive",
    is_flag=True,
    help="Prune every layer alone and measure what that does to the EER, of synthetic speakers if"
    " no trials are given.",
)
@trial_options(about="For --sensitivity: ")
@click.option(
    "--level",
    "levels",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    multiple=True,
    default=LEVELS,
    show_default=True,
    help="For --sensitivity: a sparsity to prune every layer to; may be repeated.",
)
@click.option(
    "--utterances",
    type=click.IntRange(min=2),
    default=200,
    show_default=True,
    help="For --sensitivity: how many of the trial list to embed, drawn at random.",
)
@click.option(
    "--report",
    type=PATH,
    help="For --sensitivity: also write an HTML page with a heat map.",
)
@trust_option
@common_options
def inspect_command(
    *,
    path: Path,
    min_sparsity: float | None,
    max_sparsity: float | None,
    sort: str | None,
    show_all: bool,
    sensitive: bool,
    trial_list: Path | None,
    audio_root: Path | None,
    levels: Sequence[float],
    utterances: int,
    report: Path | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Show where a model is sparse, layer by layer.

    PATH is {models}. Prunable are the weights of
    convolutions and linear layers; in a file that is not ours, all float tensors of two or more
    dimensions and more than 64 elements.
    """
    context = click.get_current_context()
    for name, flag in FOR_SENSITIVITY.items():
        if not sensitive and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{flag} has a meaning only with --sensitivity.")
    if report:
        check_writable(report)
    if sort == BY_SENSITIVITY and not sensitive:
        raise click.UsageError("--sort sensitivity needs --sensitivity.")
    order = SORTS.get(sort or "")
    artifact = load_artifact(path, trust=trust)
    table = weights_table(artifact)
    layers = sorted(table.layers, key=order) if order else table.layers
    sensitivity = None
    if sensitive:
        sensitivity = model_sensitivity(
            artifact,
            trial_list,
            audio_root,
            levels=levels,
            utterances=utterances,
            track=track,
        )
        if report:
            write_sensitivity_report(sensitivity, path.resolve().stem, report)
    if as_json:
        content = _as_json(artifact, table, layers)
        emit_json(content | ({"sensitivity": asdict(sensitivity)} if sensitivity else {}))
    elif sensitivity:
        show_sensitivity(sensitivity, by_sensitivity if sort == BY_SENSITIVITY else order)
    else:
        _show(artifact, table, layers, show_all)
    _check_gates(table, min_sparsity, max_sparsity)


def _as_json(
    artifact: Artifact, table: SparsityTable, layers: Iterable[LayerSparsity]
) -> dict[str, Any]:
    return {
        "path": str(artifact.path),
        "format": artifact.format.name,
        "layout": artifact.layout,
        "sparsity": table.sparsity,
        "global_sparsity": table.global_sparsity,
        "parameters": table.parameters,
        "nonzero": table.nonzero,
        "bytes": size_bytes(artifact.path),
        "zipped_bytes": zipped_bytes(artifact.path),
        "layers": [layer.to_json() for layer in layers],
    }


def _show(
    artifact: Artifact, table: SparsityTable, layers: Sequence[LayerSparsity], show_all: bool
) -> None:
    view = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("Parameter", "left"),
        ("Type", "left"),
        ("Shape", "right"),
        ("Size", "right"),
        ("Nonzero", "right"),
        ("Sparsity", "right"),
    ):
        view.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    view.add_column("")
    for layer in layers:
        if layer.prunable or show_all:
            shape = "×".join(str(size) for size in layer.shape)
            _add_row(view, layer.name, layer.type, shape, [layer])
    others = [layer for layer in layers if not layer.prunable]
    if others and not show_all:
        _add_row(view, f"{len(others)} others", "not prunable", "", others)
    view.add_section()
    _add_row(view, "Prunable", "", "", table.prunable)
    _add_row(view, "Whole model", "", "", table.layers)
    out.print(view)
    if table.emptied:
        text = no_weight_left(table.emptied)
        out.print(f"\n{text[0].upper()}{text[1:]}.", markup=False, soft_wrap=True)
    size, zipped = size_bytes(artifact.path), zipped_bytes(artifact.path)
    out.print(
        f"\n{artifact.path}: {artifact.format.name}, {artifact.layout} layout,"
        f" {human_bytes(size)}, {human_bytes(zipped)} zipped",
        markup=False,
        soft_wrap=True,
    )


def _add_row(
    view: Table, name: str, type_: str, shape: str, layers: Sequence[LayerSparsity]
) -> None:
    total = SparsityTable(tuple(layers))
    share = total.global_sparsity
    cells = (name, type_, shape, f"{total.parameters:,}", f"{total.nonzero:,}", f"{share:.2%}")
    view.add_row(*cells, Bar(size=1, begin=0, end=share, width=16))


def _check_gates(table: SparsityTable, minimum: float | None, maximum: float | None) -> None:
    if minimum is not None and not table.at_least(minimum):
        raise GateError(
            f"the prunable sparsity {table.sparsity:.4%} is below --min-sparsity {minimum:.4%}"
        )
    if maximum is not None and not table.at_most(maximum):
        raise GateError(
            f"the prunable sparsity {table.sparsity:.4%} is above --max-sparsity {maximum:.4%}"
        )
