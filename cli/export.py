"""`sparsify export`: write a deployable file and prove it equal to the model."""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from sparsify.artifact.artifact import load_artifact
from sparsify.artifact.formats import (
    DENSE,
    SINGLE,
    about_layouts,
    format_named,
    layouts,
    targets,
)
from sparsify.benchmarks.inference.benchmark import Benchmark, benchmark
from sparsify.cli.benchmark_display import machine_json, rows_json, show_benchmark
from sparsify.cli.display import GateError, emit_json, human_bytes, out, track
from sparsify.cli.gates import Gate, at_most
from sparsify.cli.options import (
    benchmark_option,
    calibration_option,
    common_options,
    format_option,
    max_bytes_option,
    operating_point_option,
    output_option,
    path_argument,
    precision_option,
    trust_option,
)
from sparsify.exporters.export import TOLERANCE, ExportReport, RefusedExport, export_artifact
from sparsify.exporters.native.targets import own_target
from sparsify.exporters.parity import Parity


@click.command(
    "export",
    epilog="""\b
    Examples:
      sparsify export run --format onnx --output model.onnx --benchmark
      sparsify export run --format safetensors --layout bitmask --output model.safetensors
      sparsify export run --format safetensors --layout coded --precision int8 \\
        --output small.safetensors
      sparsify export run --format mnn --output model.mnn --max-bytes 4e6
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
    "--target",
    type=click.Choice(targets()),
    help="What native code is compiled for; for wasm with a page, which --calibration gives a"
    " threshold.  [default: this machine]",
)
@calibration_option
@operating_point_option
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    metavar="F",
    help="Largest accepted difference of the embeddings, relative to their scale; given with a"
    f" --precision, also between the model and the rounded one.  [default: {TOLERANCE:g}]",
)
@max_bytes_option("Write nothing and fail (exit code 1) when what is deployed has more bytes")
@click.option(
    "--masks",
    is_flag=True,
    help="Also write which weights are kept: boolean tensors in NAME.masks.safetensors, beside the"
    " output.",
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
    target: str | None,
    calibration: Path | None,
    operating_point: str | None,
    tolerance: float | None,
    max_bytes: float | None,
    masks: bool,
    measure_latency: bool,
    force: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Write a deployable file and prove it equal to the model.

    PATH is a run directory or an artifact of ours. The embeddings of the written file are compared
    with those of the model in PyTorch, on several lengths and batch sizes; when they differ, or the
    file is larger than --max-bytes, no file is left and the exit code is 1.
    """
    if measure_latency and target not in (None, own_target()):
        raise click.UsageError(
            f"--benchmark measures on this machine: leave out --target {target}."
        )
    artifact = load_artifact(path, trust=trust)
    try:
        report = export_artifact(
            artifact,
            output,
            format_name,
            layout,
            precision=precision,
            target=target,
            calibration=calibration,
            operating_point=operating_point,
            tolerance=tolerance,
            max_bytes=max_bytes,
            masks=masks,
            force=force,
            track=track,
        )
    except RefusedExport as error:
        if as_json:
            emit_json(_as_json(error.report, None, max_bytes))
        raise GateError(str(error)) from error
    result = None
    if measure_latency:
        result = benchmark([load_artifact(output, trust=trust)], source=artifact, track=track)
    if as_json:
        emit_json(_as_json(report, result, max_bytes))
        return
    _show_sizes(report)
    _show_page(report, target)
    if result:
        show_benchmark(result)


def _as_json(
    report: ExportReport, result: Benchmark | None, max_bytes: float | None
) -> dict[str, Any]:
    return {
        **asdict(report),
        "path": str(report.path),
        "parity": _finite(report.parity),
        "rounding": _finite(report.rounding),
        "benchmark": rows_json(result) if result else [],
        "gates": [gate.to_json() for gate in _gates(report, max_bytes)],
        **({"machine": machine_json(result)} if result else {}),
    }


def _gates(report: ExportReport, max_bytes: float | None) -> list[Gate]:
    if max_bytes is None:
        return []
    return [at_most("max_bytes", max_bytes, report.bytes, "the size", _bytes_shown)]


def _bytes_shown(size: float) -> str:
    return human_bytes(round(size))


def _finite(parity: Parity | None) -> dict[str, Any] | None:
    if parity is None:
        return None
    return {key: value if math.isfinite(value) else None for key, value in asdict(parity).items()}


def _show_sizes(report: ExportReport) -> None:
    view = Table(box=None, pad_edge=False)
    view.add_column("", no_wrap=True)
    for heading in ("Size", "Zipped", "Share of dense, zipped"):
        view.add_column(heading, justify="right")
    kind = [report.layout] if report.layout != DENSE or report.precision == SINGLE else []
    kind += [report.precision] if report.precision != SINGLE else []
    rows = (
        (f"{report.sparsity:.2%} sparse, {' '.join(kind)}", report.bytes, report.zipped_bytes),
        ("dense twin", report.dense_bytes, report.dense_zipped_bytes),
    )
    for name, size, zipped in rows:
        share = f"{zipped / report.dense_zipped_bytes:.1%}"
        view.add_row(name, human_bytes(size), human_bytes(zipped), share)
    out.print(view)
    out.print(f"\nWrote {report.path}: {_verdict(report)}", markup=False, soft_wrap=True)


def _show_page(report: ExportReport, target: str | None) -> None:
    format_ = format_named(report.format)
    if target in format_.deciding:
        folder = shlex.quote(str(format_.deployed_file(report.path)))
        out.print(
            f"Its page: python -m http.server --directory {folder}", markup=False, soft_wrap=True
        )


def _verdict(report: ExportReport) -> str:
    if report.parity is None:
        return f"not compared with the model, since {report.obstacle}"
    error = f"largest error {report.parity.max_abs_error:.1e}"
    cosine = f"smallest cosine {report.parity.cosine_min:.6f}"
    if report.rounding is None:
        return f"equal to the model ({error}, {cosine})"
    return (
        f"equal to the model in {report.precision} ({error}, {cosine}); rounding moves embeddings"
        f" by up to {report.rounding.max_abs_error:.1e} (smallest cosine"
        f" {report.rounding.cosine_min:.6f})"
    )
