"""`sparsify export`: write a deployable file and prove it equal to the model."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sparsify.artifact.artifact import load_artifact
from sparsify.artifact.formats import DENSE, about_layouts, format_named, layouts, targets
from sparsify.benchmarks.inference.benchmark import Benchmark, benchmark
from sparsify.cli.benchmark_display import machine_json, rows_json
from sparsify.cli.display import GateError, emit_json, human_bytes, out, track
from sparsify.cli.export_display import show_export
from sparsify.cli.gates import Gate, at_most, eer_loss_gate
from sparsify.cli.options import (
    PATH,
    benchmark_option,
    calibration_option,
    common_options,
    format_option,
    max_bytes_option,
    max_eer_loss_option,
    operating_point_option,
    output_option,
    path_argument,
    precision_option,
    trial_options,
    trust_option,
)
from sparsify.exporters.accuracy import accuracy_protocol
from sparsify.exporters.export import TOLERANCE, ExportReport, RefusedExport, export_artifact
from sparsify.exporters.native.targets import own_target
from sparsify.exporters.parity import Parity
from sparsify.verification.trials import TrialList


@click.command(
    "export",
    epilog="""\b
    Examples:
      sparsify export run --format onnx --output model.onnx --benchmark
      sparsify export run --format onnx --with-frontend --output from-samples.onnx
      sparsify export run --format safetensors --layout bitmask --output model.safetensors
      sparsify export run --format safetensors --layout coded --precision int8 \\
        --output small.safetensors
      sparsify export run --format mnn --output model.mnn --max-bytes 4e6
      sparsify export run --format onnx --shrink --output small.onnx
      sparsify export run --format onnx --precision int8 --quantize-audio train \\
        --output small.onnx --trials trials.txt --audio-root test --max-eer-loss 0.5
      sparsify export run --format native --precision fp16 --output model-c
      sparsify export run --format native --target wasm --calibration c.json --output model-web
    """,
)
@path_argument
@format_option()
@output_option("The file to write; for native, the folder.", metavar="FILE|DIR")
@click.option(
    "--layout",
    type=click.Choice(layouts()),
    default=DENSE,
    show_default=True,
    help=about_layouts(),
)
@precision_option()
@click.option(
    "--shrink",
    is_flag=True,
    help="Take dead channels out first: a smaller dense network with the same embeddings, for"
    " models that were trained by channel.",
)
@click.option(
    "--target",
    type=click.Choice(targets()),
    help="What native code is compiled for; for wasm with a page, which --calibration gives a"
    " threshold.  [default: this machine]",
)
@calibration_option
@operating_point_option
@click.option(
    "--quantize-audio",
    "quantise_audio",
    type=PATH,
    metavar="DATA",
    help="For --format onnx --precision int8: speech that tells the ranges of activations, whatever"
    " `sparsify train --data` reads; a few utterances of it are read.",
)
@click.option(
    "--reduce-range",
    is_flag=True,
    help="For --quantize-audio: weights of seven bits, as x86 without VNNI needs them; for a file"
    " that also goes to other machines than this one.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    metavar="F",
    help="Largest accepted difference of the embeddings, relative to their scale; given with a"
    f" --precision, also between the model and the rounded one.  [default: {TOLERANCE:g}]",
)
@trial_options(about="Evaluate the model and the file, too. ")
@max_eer_loss_option(
    "For --trials: write nothing and fail (exit code 1) when the EER in percent is higher by more"
    " than that."
)
@max_bytes_option("Write nothing and fail (exit code 1) when what is deployed has more bytes")
@click.option(
    "--masks",
    is_flag=True,
    help="Also write which weights are kept: boolean tensors in NAME.masks.safetensors, beside the"
    " output.",
)
@click.option(
    "--with-frontend",
    "with_front_end",
    is_flag=True,
    help="Put the filterbank into the graph (onnx only), which then takes samples [B, samples] in"
    " [-1, 1].",
)
@benchmark_option
@click.option("--force", is_flag=True, help="Replace the output if it exists.")
@trust_option
@common_options
def export_command(
    *,
    path: Path,
    format_name: str,
    output: Path,
    layout: str,
    precision: str,
    shrink: bool,
    target: str | None,
    calibration: Path | None,
    operating_point: str | None,
    quantise_audio: Path | None,
    reduce_range: bool,
    tolerance: float | None,
    trial_list: TrialList | None,
    audio_root: Path | None,
    max_eer_loss: float | None,
    max_bytes: float | None,
    masks: bool,
    with_front_end: bool,
    measure_latency: bool,
    force: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Write a deployable file and prove it equal to the model.

    PATH is a run directory or an artifact of ours. The embeddings of the written file are compared
    with those of the model in PyTorch, on several lengths and batch sizes; of int8 layers, with
    those that onnx's own reference computes. When they differ, or the file is larger than
    --max-bytes or loses more than --max-eer-loss, no file is left and the exit code is 1.
    """
    if max_eer_loss is not None and trial_list is None:
        raise click.UsageError("--max-eer-loss needs --trials and --audio-root.")
    if reduce_range and quantise_audio is None:
        raise click.UsageError("--reduce-range serves --quantize-audio: give that, too.")
    if measure_latency and target not in (None, own_target()):
        raise click.UsageError(
            f"--benchmark measures on this machine: leave out --target {target}."
        )
    limits = {"max_bytes": max_bytes, "max_eer_loss": max_eer_loss}
    artifact = load_artifact(path, trust=trust)
    protocol = None
    if trial_list is not None and audio_root is not None:
        protocol = accuracy_protocol(trial_list, audio_root)
    try:
        report = export_artifact(
            artifact,
            output,
            format_name,
            layout,
            precision=precision,
            shrink=shrink,
            target=target,
            calibration=calibration,
            operating_point=operating_point,
            quantise_audio=quantise_audio,
            reduce_range=reduce_range,
            tolerance=tolerance,
            max_bytes=max_bytes,
            protocol=protocol,
            max_eer_loss=max_eer_loss,
            masks=masks,
            with_front_end=with_front_end,
            force=force,
            track=track,
        )
    except RefusedExport as error:
        if as_json:
            emit_json(_as_json(error.report, None, limits))
        raise GateError(str(error)) from error
    result = None
    if measure_latency:
        result = benchmark([load_artifact(output, trust=trust)], source=artifact, track=track)
    if as_json:
        emit_json(_as_json(report, result, limits))
        return
    show_export(report, result)
    _show_page(report, target)


def _as_json(
    report: ExportReport, result: Benchmark | None, limits: Mapping[str, float | None]
) -> dict[str, Any]:
    return {
        **asdict(report),
        "path": str(report.path),
        "parity": _finite(report.parity),
        "rounding": _finite(report.rounding),
        "benchmark": rows_json(result) if result else [],
        "gates": [gate.to_json() for gate in _gates(report, limits)],
        **({"machine": machine_json(result)} if result else {}),
    }


def _gates(report: ExportReport, limits: Mapping[str, float | None]) -> Iterator[Gate]:
    if (most := limits["max_bytes"]) is not None:
        yield at_most("max_bytes", most, report.bytes, "the size", _bytes_shown)
    if (most := limits["max_eer_loss"]) is not None and report.accuracy:
        yield eer_loss_gate(most, report.accuracy.loss)


def _bytes_shown(size: float) -> str:
    return human_bytes(round(size))


def _finite(parity: Parity | None) -> dict[str, Any] | None:
    if parity is None:
        return None
    found = asdict(parity).items()
    return {
        key: None if value is None or not math.isfinite(value) else value for key, value in found
    }


def _show_page(report: ExportReport, target: str | None) -> None:
    format_ = format_named(report.format)
    if target in format_.deciding:
        folder = shlex.quote(str(format_.deployed_file(report.path)))
        out.print(
            f"Its page: python -m http.server --directory {folder}", markup=False, soft_wrap=True
        )
