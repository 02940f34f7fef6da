"""Sizes of model files: the coded layout in every precision, beside other files of the same model.

Run it as `python -m sparsify.benchmarks.coded --output FILE [--run FOLDER ...] [--nncodec PYTHON]
[--trials FILE --audio-root DIR]`. ECAPA-512 as it is built, with random masks; then trained models,
where runs are given, with their EER in every precision, where trials are. With a Python that has
nncodec, what that makes at the error of each precision.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sparsify.artifact.artifact import Artifact
from sparsify.artifact.coded import entropy_bytes
from sparsify.artifact.formats import BITMASK, CODED, STORE
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.rounding import rounded
from sparsify.benchmarks.engines import masked
from sparsify.benchmarks.machine import command_line, describe_machine
from sparsify.benchmarks.nnc import NeuralNetworkCoding
from sparsify.exporters.export import export_artifact
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.verification.evaluate import evaluate
from sparsify.verification.trials import read_trials

MODEL = "ecapa-tdnn-512"
SPARSITIES = (0.9, 0.95, 0.99)
OTHERS = ("onnx", "mnn")


@dataclass(frozen=True)
class Extras:
    """What is measured besides sizes.

    Attributes:
        nncodec: An interpreter that has nncodec.
        trials: To evaluate trained models on.
        audio_root: Folder of their audio.
    """

    nncodec: Path | None = None
    trials: Path | None = None
    audio_root: Path | None = None


def sizes(artifact: Artifact, folder: Path, extras: Extras) -> dict[str, Any]:
    """Bytes of the files of a model.

    Args:
        artifact: The model.
        folder: A folder for the files.
        extras: What else to measure.
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
    coded = [_coded(artifact, output, precision, extras) for precision in STORE.precisions]
    if extras.nncodec:
        nnc = NeuralNetworkCoding(extras.nncodec, artifact, folder)
        for row in coded[1:]:
            row["nncodec_bytes_at_equal_error"] = nnc.bytes_at(row["rounding"]["cosine_min"])
    return result | {CODED: [row | {"ratio": dense.bytes / row["bytes"]} for row in coded]}


def _coded(artifact: Artifact, output: Path, precision: str, extras: Extras) -> dict[str, Any]:
    report = export_artifact(artifact, output, STORE.name, CODED, precision=precision, force=True)
    start = time.perf_counter()
    load_artifact(output)
    seconds = time.perf_counter() - start
    return {
        "precision": precision,
        "bytes": report.bytes,
        "entropy_bytes": entropy_bytes(rounded(artifact, precision).arrays),
        "seconds_to_read": seconds,
        "sparsity": report.sparsity,
        "rounding": asdict(report.rounding) if report.rounding else None,
        "eer_percent": _eer(output, extras),
    }


def _eer(file: Path, extras: Extras) -> float | None:
    if extras.trials is None or extras.audio_root is None:
        return None
    model = load_speaker_model(file)
    trials = read_trials(extras.trials)
    return evaluate(model.embedder, trials, extras.audio_root, model.front_end).eer_percent


def measure(runs: list[Path], extras: Extras) -> dict[str, Any]:
    """All sizes, as JSON."""
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for sparsity in SPARSITIES:
            artifact = masked(MODEL, sparsity, folder / "random.safetensors")
            untrained = replace(extras, trials=None)
            rows.append({"model": MODEL, "weights": "random"} | sizes(artifact, folder, untrained))
            print(json.dumps(rows[-1]), file=sys.stderr)
        for run in runs:
            trained = sizes(load_artifact(run), folder, extras)
            rows.append({"model": run.name, "weights": "trained"} | trained)
            print(json.dumps(rows[-1]), file=sys.stderr)
    return {"machine": asdict(describe_machine()), "rows": rows}


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--nncodec", type=Path, help="a Python that has nncodec")
    parser.add_argument("--trials", type=Path)
    parser.add_argument("--audio-root", type=Path)
    options = parser.parse_args()
    extras = Extras(options.nncodec, options.trials, options.audio_root)
    result = {"command": command_line()} | measure(options.run, extras)
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
