"""int8 graphs of trained models: error rate, latency and size beside float32.

Run it as `python -m sparsify.benchmarks.quantised --output FILE --speech FOLDER --run FOLDER ...`,
the folder of speech being speech-mini.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.formats import EIGHT_BITS, RUNTIME, SINGLE
from sparsify.artifact.loading import load_artifact
from sparsify.benchmarks.inference.benchmark import benchmark
from sparsify.benchmarks.machine import command_line, describe_machine
from sparsify.exporters.accuracy import accuracy_protocol
from sparsify.exporters.export import ExportReport, export_artifact
from sparsify.verification.trials import TrialList

ROUNDS = 20
VARIANTS = {
    "fp32": (SINGLE, False),
    "int8": (EIGHT_BITS, False),
    "int8 reduced": (EIGHT_BITS, True),
}
"""Precision, and whether weights take seven bits."""


def compare(run: Path, speech: Path, folder: Path) -> dict[str, Any]:
    """Figures of the graphs of one model, timed side by side.

    Args:
        run: The run directory.
        speech: speech-mini, with which it is quantised and evaluated.
        folder: A folder for the files.
    """
    artifact = load_artifact(run)
    paths = {name: folder / f"{run.name} {name}.onnx" for name in VARIANTS}
    reports = {name: _export(artifact, path, name, speech) for name, path in paths.items()}
    files = [load_artifact(path) for path in paths.values()]
    times = benchmark(files, threads=(1,), rounds=ROUNDS, source=artifact)
    names = {str(path): name for name, path in paths.items()}
    return {
        "model": run.name,
        "exports": {name: _figures(report) for name, report in reports.items()},
        "latencies": [asdict(row) | {"path": names.get(row.path, row.path)} for row in times.rows],
    }


def _export(artifact: Artifact, output: Path, name: str, speech: Path) -> ExportReport:
    precision, reduce_range = VARIANTS[name]
    if precision == SINGLE:
        return export_artifact(artifact, output, RUNTIME.name)
    return export_artifact(
        artifact,
        output,
        RUNTIME.name,
        precision=precision,
        quantise_audio=speech / "train",
        reduce_range=reduce_range,
        protocol=accuracy_protocol(TrialList(speech / "trials.txt"), speech / "test"),
    )


def _figures(report: ExportReport) -> dict[str, Any]:
    figures = asdict(report) | {"path": report.path.name}
    print(json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--run", type=Path, action="append", required=True)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        rows = [compare(run, options.speech, Path(folder)) for run in options.run]
    result = {
        "command": command_line(),
        "machine": asdict(describe_machine()),
        "rows": rows,
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
