"""Networks without their dead channels: size, latency in every engine, and error rates.

Run it as `python -m sparsify.benchmarks.shrink DENSE RUN… --test NAME=TRIALS:AUDIO --output FILE`,
with a dense run first and runs that were trained by channel behind it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sparsify.artifact.artifact import load_artifact
from sparsify.benchmarks.inference.benchmark import benchmark
from sparsify.exporters.accuracy import accuracy_protocol, measure_accuracy
from sparsify.exporters.export import export_artifact
from sparsify.exporters.exporter import exporter_of

_FORMATS = {"onnx": ".onnx", "mnn": ".mnn", "native": ""}


def _row(run: Path, home: Path, tests: Sequence[str]) -> dict[str, Any]:
    """What becomes of a run; its exports are left in a folder."""
    artifact = load_artifact(run)
    recipe = artifact.recipe
    row: dict[str, Any] = {"name": run.name, "bytes": {}, "eer_percent": {}}
    for name, suffix in _FORMATS.items():
        output = home / f"{run.name}-{name}{suffix}"
        report = export_artifact(artifact, output, name, shrink=True)
        row["bytes"][name] = report.bytes
        if report.shrunk:
            row |= report.shrunk.to_json()
    row["target_sparsity"] = recipe.target_sparsity if recipe else None
    row["method"] = recipe.method if recipe else None
    exported = load_artifact(home / f"{run.name}-onnx.onnx")
    for test in tests:
        name, _, where = test.partition("=")
        trials, _, root = where.partition(":")
        protocol = accuracy_protocol(Path(trials), Path(root))
        accuracy = measure_accuracy(artifact, exported, exporter_of(exported.format), protocol)
        row["eer_percent"][name] = accuracy.after.eer_percent
        row.setdefault("eer_percent_before", {})[name] = accuracy.before.eer_percent
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sparsify.benchmarks.shrink", description="Without dead channels."
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--test", action="append", default=[], metavar="NAME=TRIALS:AUDIO")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        home = Path(folder)
        rows = [_row(run, home, options.test) for run in options.runs]
        files = {
            str(home / f"{row['name']}-{name}{suffix}"): (row, name)
            for row in rows
            for name, suffix in _FORMATS.items()
        }
        measured = benchmark([load_artifact(file) for file in files], threads=(1,))
        for latency in measured.rows:
            if latency.path in files and latency.artifact == "sparse":
                row, name = files[latency.path]
                row.setdefault("median_ms", {})[name] = latency.median_ms
    result = {
        "command": "python -m sparsify.benchmarks.shrink DENSE RUN… --test clean=… --test noisy=…"
        " --output benchmarks/results/shrink.json",
        "machine": asdict(measured.machine),
        "threads": 1,
        "frames": 200,
        "rows": rows,
    }
    options.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
