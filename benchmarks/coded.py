"""Sizes of model files: the coded layout in every precision, beside other files of the same model.

Run it as `python -m sparsify.benchmarks.coded --output FILE [--run FOLDER ...]`. ECAPA-512 as it is
built, with random masks; then trained models, where runs are given.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sparsify.artifact.artifact import Artifact, load_artifact
from sparsify.artifact.coded import entropy_bytes
from sparsify.artifact.formats import BITMASK, CODED, STORE
from sparsify.artifact.rounding import rounded
from sparsify.benchmarks.engines import masked
from sparsify.benchmarks.machine import describe_machine
from sparsify.exporters.export import export_artifact

MODEL = "ecapa-tdnn-512"
SPARSITIES = (0.9, 0.95, 0.99)
OTHERS = ("onnx", "mnn")


def sizes(artifact: Artifact, folder: Path) -> dict[str, Any]:
    """Bytes of the files of a model.

    Args:
        artifact: The model.
        folder: A folder for the files.
    """
    output = folder / f"m{STORE.suffixes[0]}"
    dense = export_artifact(artifact, output, STORE.name, force=True)
    packed = export_artifact(artifact, output, STORE.name, BITMASK, force=True)
    result: dict[str, Any] = {
        "sparsity": dense.sparsity,
        "dense_bytes": dense.bytes,
        "dense_zipped_bytes": dense.zipped_bytes,
        "bitmask_bytes": packed.bytes,
    }
    for name in OTHERS:
        other = export_artifact(artifact, folder / f"m.{name}", name, force=True)
        result |= {f"{name}_bytes": other.bytes, f"{name}_zipped_bytes": other.zipped_bytes}
    coded = [_coded(artifact, output, precision) for precision in STORE.precisions]
    return result | {CODED: [row | {"ratio": dense.bytes / row["bytes"]} for row in coded]}


def _coded(artifact: Artifact, output: Path, precision: str) -> dict[str, Any]:
    report = export_artifact(artifact, output, STORE.name, CODED, precision=precision, force=True)
    start = time.perf_counter()
    load_artifact(output)
    seconds = time.perf_counter() - start
    return {
        "precision": precision,
        "bytes": report.bytes,
        "entropy_bytes": entropy_bytes(rounded(artifact, precision).state),
        "seconds_to_read": seconds,
        "sparsity": report.sparsity,
        "rounding": asdict(report.rounding) if report.rounding else None,
    }


def measure(runs: list[Path]) -> dict[str, Any]:
    """All sizes, as JSON."""
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for sparsity in SPARSITIES:
            artifact = masked(MODEL, sparsity, folder / "random.safetensors")
            rows.append({"model": MODEL, "weights": "random"} | sizes(artifact, folder))
            print(json.dumps(rows[-1]), file=sys.stderr)
        for run in runs:
            rows.append(
                {"model": run.name, "weights": "trained"} | sizes(load_artifact(run), folder)
            )
            print(json.dumps(rows[-1]), file=sys.stderr)
    return {"machine": asdict(describe_machine()), "rows": rows}


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--run", type=Path, action="append", default=[])
    options = parser.parse_args()
    result = {"command": "python -m sparsify.benchmarks.coded"} | measure(options.run)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
