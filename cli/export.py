"""`sparsify export`: write a deployable file and prove it equal to the model."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sparsify.artifact.formats import format_named
from sparsify.artifact.loading import load_artifact
from sparsify.benchmarks.inference.benchmark import Benchmark, benchmark
from sparsify.cli.benchmark_display import machine_json, rows_json
from sparsify.cli.display import GateError, emit_json, human_bytes, say, say_next, track
from sparsify.cli.export_display import show_export
from sparsify.cli.gates import Gate, at_most, decide, eer_loss_gate, verdict_alone
from sparsify.exporters.accuracy import accuracy_protocol
from sparsify.exporters.export import ExportReport, RefusedExport, export_artifact
from sparsify.exporters.native.targets import own_target
from sparsify.verification.trials import TrialList


def run(
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
    """What `sparsify export` does."""
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
    gates = [*_gates(report, limits)]
    if not verdict_alone(gates):
        show_export(report, result)
        _show_page(report, target)
    decide(gates)
    if result is None and target in (None, own_target()):
        say_next("benchmark", output)


def _as_json(
    report: ExportReport, result: Benchmark | None, limits: Mapping[str, float | None]
) -> dict[str, Any]:
    return {
        **asdict(report),
        "path": str(report.path),
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


def _show_page(report: ExportReport, target: str | None) -> None:
    format_ = format_named(report.format)
    if target in format_.deciding:
        folder = shlex.quote(str(format_.deployed_file(report.path)))
        say(f"Its page: python -m http.server --directory {folder}")
