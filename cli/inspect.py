"""`sparsify inspect`: where a model is sparse, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.bar import Bar

from sparsify.artifact.artifact import Artifact, load_artifact, weights_table
from sparsify.cli.display import console, emit_json, human_bytes, out, track
from sparsify.cli.gates import fail_if_any, show_passed
from sparsify.cli.inspect_gates import macs_gate, sparsity_gates
from sparsify.cli.options import (
    PATH,
    common_options,
    max_macs_option,
    model_argument,
    trial_options,
    trust_option,
)
from sparsify.cli.sensitivity_display import by_sensitivity, show_sensitivity
from sparsify.cli.tables import Column, fitted
from sparsify.exporters.counting import Counted, count_work
from sparsify.files import check_writable, size_bytes, zipped_bytes
from sparsify.report.sensitivity_page import write_sensitivity_report
from sparsify.sparsity.table import LayerSparsity, SparsityTable, no_weight_left
from sparsify.sparsity.work import NO_WORK, SPEECH_SECONDS
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
      sparsify inspect run --min-sparsity 0.9 --max-macs 0.2 --quiet
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
@max_macs_option
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
    max_macs: float | None,
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
    dimensions and more than 64 elements. Multiply-adds are those with a weight, for two seconds of
    speech: a weight of a convolution counts once for every position of its output. With gates and
    --quiet one line tells the verdict.
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
    counted = None
    if as_json or not sensitivity or max_macs is not None:
        counted = count_work(artifact)
    gates = [*sparsity_gates(table, min_sparsity, max_sparsity)]
    if counted and max_macs is not None:
        gates.append(macs_gate(path, table, counted, max_macs))
    if as_json and counted:
        content = _as_json(artifact, table, layers, counted)
        content["gates"] = [gate.to_json() for gate in gates]
        emit_json(content | ({"sensitivity": asdict(sensitivity)} if sensitivity else {}))
    elif gates and console.quiet and not sensitivity:
        show_passed(gates)
    elif sensitivity:
        show_sensitivity(sensitivity, by_sensitivity if sort == BY_SENSITIVITY else order)
    elif counted:
        _show(artifact, table, layers, counted, show_all)
    fail_if_any(gates)


def _as_json(
    artifact: Artifact,
    table: SparsityTable,
    layers: Iterable[LayerSparsity],
    counted: Counted,
) -> dict[str, Any]:
    return {
        "path": str(artifact.path),
        "format": artifact.format.name,
        "layout": artifact.layout,
        "sparsity": table.sparsity,
        "global_sparsity": table.global_sparsity,
        "parameters": table.parameters,
        "nonzero": table.nonzero,
        **counted.to_json(table.layers),
        "frames": counted.frames,
        "why_no_multiply_adds": counted.why_not,
        "bytes": size_bytes(artifact.format.deployed_file(artifact.path)),
        "zipped_bytes": zipped_bytes(artifact.path),
        "layers": [layer.to_json() | counted.to_json([layer]) for layer in layers],
    }


def _show(
    artifact: Artifact,
    table: SparsityTable,
    layers: Sequence[LayerSparsity],
    counted: Counted,
    show_all: bool,
) -> None:
    shown = [layer for layer in layers if layer.prunable or show_all]
    rows: list[tuple[str, str, str, Sequence[LayerSparsity]]] = [
        (layer.name, layer.type, "×".join(str(size) for size in layer.shape), [layer])
        for layer in shown
    ]
    others = [layer for layer in layers if not layer.prunable]
    if others and not show_all:
        rows.append((f"{len(others)} others", "not prunable", "", others))
    totals = [("Prunable", "", "", table.prunable), ("Whole model", "", "", table.layers)]
    view = fitted(
        [
            Column("Parameter", [name for name, *_ in (*rows, *totals)], left=True),
            Column("Type", [type_ for _, type_, *_ in (*rows, *totals)], left=True, rank=3),
            Column("Shape", [shape for _, _, shape, _ in (*rows, *totals)], rank=5),
            *_numbers([each for *_, each in (*rows, *totals)], counted),
        ],
        sections=[len(rows)],
    )
    out.print(view)
    if table.emptied:
        text = no_weight_left(table.emptied)
        out.print(f"\n{text[0].upper()}{text[1:]}.", markup=False, soft_wrap=True)
    file = artifact.format.deployed_file(artifact.path)
    size, zipped = size_bytes(file), zipped_bytes(file)
    out.print(
        f"\n{artifact.path}: {artifact.format.name}, {artifact.layout} layout,"
        f" {human_bytes(size)}, {human_bytes(zipped)} zipped\n{_zeros(table, counted)}",
        markup=False,
        soft_wrap=True,
    )


def _numbers(groups: Sequence[Sequence[LayerSparsity]], counted: Counted) -> list[Column]:
    """The columns of numbers for groups of layers."""
    sums = [SparsityTable(tuple(layers)) for layers in groups]
    columns = [
        Column("Size", [f"{each.parameters:,}" for each in sums], rank=1),
        Column("Nonzero", [f"{each.nonzero:,}" for each in sums], rank=4),
        Column("Sparsity", [f"{each.global_sparsity:.2%}" for each in sums]),
        Column(
            "",
            [Bar(size=1, begin=0, end=each.global_sparsity, width=16) for each in sums],
            rank=7,
            left=True,
        ),
    ]
    total = counted.of(layer for layers in groups for layer in layers)
    if total is None:
        return columns
    work = [counted.of(layers) or NO_WORK for layers in groups]
    whole = work[-1].multiply_adds or 1
    counts = [f"{each.multiply_adds / 1e6:,.2f} M" if each.multiply_adds else "" for each in work]
    shares = [f"{each.multiply_adds / whole:.1%}" if each.multiply_adds else "" for each in work]
    columns[-1:-1] = [
        Column("Multiply-adds", counts, rank=2),
        Column("of all", shares, rank=6),
    ]
    return columns


def _zeros(table: SparsityTable, counted: Counted) -> str:
    """How much of the weights, and of the work, the zeros are."""
    work = counted.of(table.layers)
    if work is None:
        return f"Multiply-adds are not known: {counted.why_not}"
    return (
        f"Zero are {table.sparsity:.2%} of the prunable weights, which take {work.sparsity:.2%} of"
        f" the {work.multiply_adds / 1e6:,.1f} million multiply-adds for {SPEECH_SECONDS} s of"
        f" speech ({counted.frames} frames)."
    )
