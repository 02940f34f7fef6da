"""`sparsify inspect`: where a model is sparse, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sparsify.artifact.artifact import Artifact, load_artifact, weights_table
from sparsify.artifact.provenance import COLLAPSED, FEATURES, SAMPLES
from sparsify.cli.display import console, emit_json, track
from sparsify.cli.gates import fail_if_any, show_passed
from sparsify.cli.inspect_compare import compare_weights, show_comparison
from sparsify.cli.inspect_display import entropy_of, show_table
from sparsify.cli.inspect_gates import doubt_of, macs_gate, sparsity_gates
from sparsify.cli.options import (
    PATH,
    common_options,
    max_macs_option,
    model_argument,
    trial_options,
    trust_option,
)
from sparsify.cli.sensitivity_display import by_sensitivity, show_sensitivity
from sparsify.exporters.counting import Counted, count_work
from sparsify.files import check_writable, size_bytes, zipped_bytes
from sparsify.report.sensitivity_page import write_sensitivity_report
from sparsify.sparsity.table import LayerSparsity, SparsityTable
from sparsify.verification.sensitivity import LEVELS, model_sensitivity
from sparsify.verification.trials import TrialList

BY_SENSITIVITY = "sensitivity"
FOR_SENSITIVITY = {
    "trial_list": "--trials",
    "audio_root": "--audio-root",
    "levels": "--level",
    "utterances": "--utterances",
    "report": "--report",
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
      sparsify inspect fine-tuned --compare run
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
@click.option(
    "--compare",
    "other",
    type=PATH,
    metavar="PATH",
    help="Show how the weights of each layer differ from those of another model of this network, or"
    " how many channels it has more or less.",
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
    other: Path | None,
    show_all: bool,
    sensitive: bool,
    trial_list: TrialList | None,
    audio_root: Path | None,
    levels: Sequence[float],
    utterances: int,
    report: Path | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Show where a model is sparse, layer by layer.

    PATH is {models}. Prunable are the weights of
    convolutions and linear layers; in a file that is not ours, all tensors of two or more
    dimensions and more than 64 elements, integers against their zero point. No gate passes on a
    file of which something could not be counted. Multiply-adds are those with a weight, for two
    seconds of speech: a weight of a convolution counts once for every position of its output. With
    gates and --quiet one line tells the verdict.
    """
    _check_usage(sort, other, sensitive=sensitive)
    if report:
        check_writable(report)
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
    comparison = None
    if other:
        comparison = compare_weights(artifact, load_artifact(other), prunable=not show_all)
    gates = [*sparsity_gates(table, min_sparsity, max_sparsity, doubt_of(artifact))]
    if counted and max_macs is not None:
        gates.append(macs_gate(artifact, table, counted, max_macs))
    if as_json and counted:
        content = _as_json(artifact, table, layers, counted)
        content["gates"] = [gate.to_json() for gate in gates]
        content |= {"sensitivity": asdict(sensitivity)} if sensitivity else {}
        emit_json(content | ({"compare": comparison.to_json()} if comparison else {}))
    elif gates and console.quiet and not sensitivity:
        show_passed(gates)
    elif comparison:
        show_comparison(comparison)
    elif sensitivity:
        show_sensitivity(sensitivity, by_sensitivity if sort == BY_SENSITIVITY else order)
    elif counted:
        show_table(artifact, table, layers, counted, show_all)
    fail_if_any(gates)


def _check_usage(sort: str | None, other: Path | None, *, sensitive: bool) -> None:
    """Refuses options that do nothing together."""
    context = click.get_current_context()
    for name, flag in FOR_SENSITIVITY.items():
        if not sensitive and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{flag} has a meaning only with --sensitivity.")
    if sort == BY_SENSITIVITY and not sensitive:
        raise click.UsageError("--sort sensitivity needs --sensitivity.")
    if other and (sensitive or sort):
        raise click.UsageError("--compare shows no --sensitivity and knows no --sort.")


def _as_json(
    artifact: Artifact,
    table: SparsityTable,
    layers: Iterable[LayerSparsity],
    counted: Counted,
) -> dict[str, Any]:
    deployed = artifact.format.deployed_file(artifact.path)
    return {
        "path": str(artifact.path),
        "format": artifact.format.name,
        "layout": artifact.layout,
        "input": SAMPLES if artifact.takes_samples else FEATURES,
        "collapsed": artifact.metadata.get(COLLAPSED),
        "sparsity": table.sparsity,
        "global_sparsity": table.global_sparsity,
        "parameters": table.parameters,
        "nonzero": table.nonzero,
        **counted.to_json(table.layers),
        "frames": counted.frames,
        "why_no_multiply_adds": counted.why_not,
        "bytes": size_bytes(deployed),
        "zipped_bytes": zipped_bytes(deployed),
        "entropy_bytes": entropy_of(artifact),
        "left_out": list(artifact.left_out),
        "layers": [layer.to_json() | counted.to_json([layer]) for layer in layers],
    }
