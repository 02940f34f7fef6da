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
from sparsify.artifact.formats import DENSE, format_named
from sparsify.benchmarks.inference.benchmark import benchmark
from sparsify.benchmarks.machine import command_line
from sparsify.exporters.accuracy import accuracy_protocol
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.shrink import shrunk
from sparsify.files import size_bytes
from sparsify.verification.trials import TrialList

_FORMATS = {"onnx": ".onnx", "mnn": ".mnn", "native": ""}


def _row(run: Path, home: Path, tests: Sequence[str]) -> dict[str, Any]:
    """What becomes of a run; its exports are left in a folder."""
    artifact, shrinkage = shrunk(load_artifact(run))
    recipe = artifact.recipe
    row: dict[str, Any] = {
        "name": run.name,
        "method": recipe.method if recipe else None,
        "target_sparsity": recipe.target_sparsity if recipe else None,
        **asdict(shrinkage),
        "bytes": {},
        "eer_percent": {},
        "median_ms": {},
    }
    for name in _FORMATS:
        output = _output(run, home, name)
        exporter_of(format_named(name)).write(artifact, output, DENSE)
        row["bytes"][name] = size_bytes(format_named(name).deployed_file(output))
    written = load_artifact(_output(run, home, "onnx"))
    network = exporter_of(written.format).network(written)
    for test in tests:
        name, _, where = test.partition("=")
        trials, _, root = where.partition(":")
        protocol = accuracy_protocol(TrialList(trials), Path(root))
        outcome = protocol.outcome(lambda feats: network(feats[None])[0], written.front_end)
        row["eer_percent"][name] = outcome.result.eer_percent
    return row


def _output(run: Path, home: Path, format_name: str) -> Path:
    return home / f"{run.name}-{format_name}{_FORMATS[format_name]}"


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
            str(_output(run, home, name)): row["median_ms"]
            for run, row in zip(options.runs, rows, strict=True)
            for name in _FORMATS
        }
        measured = benchmark([load_artifact(file) for file in files], threads=(1,))
        for latency in measured.rows:
            if latency.path in files:  # a dense twin comes before its file
                files[latency.path][latency.engine] = latency.median_ms
    result = {
        "command": command_line(),
        "machine": asdict(measured.machine),
        "threads": 1,
        "frames": 200,
        "rows": rows,
    }
    options.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
