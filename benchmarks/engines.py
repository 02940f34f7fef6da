"""Do zeros pay? Sparse models in every engine against dense ones in onnxruntime, in one run each.

Run it as `python -m sparsify.benchmarks.engines --output FILE [--trained RUN]...`. Random masks
have the same share of zeros in every layer; trained runs have what training gave them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from sparsify.artifact.artifact import Artifact, weights_table
from sparsify.artifact.formats import DENSE, HALF, format_named
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.benchmarks.inference.benchmark import Benchmark, benchmark
from sparsify.benchmarks.inference.speedup import paired_speedup
from sparsify.benchmarks.machine import command_line, describe_machine
from sparsify.exporters.export import export_artifact
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.native.engine import Engine
from sparsify.exporters.native.exporter import program_of
from sparsify.exporters.native.layer_speed import layer_speeds, matrix_seconds
from sparsify.exporters.native.matrix import BLOCK
from sparsify.exporters.networks import Network
from sparsify.models.registry import build_model
from sparsify.sparsity.prunable import prunable_parameters

MODELS = ("ecapa-tdnn-512", "ecapa-tdnn-1024", "resnet34")
SPARSITIES = (0.75, 0.9, 0.95, 0.99)
_FRAMES = 200
_LENGTHS = (50, 100, 200, 400, 1000, 3000)
_ROUNDS = 9
_TURN_SECONDS = 0.3


def masked(name: str, sparsity: float, path: Path) -> Artifact:
    """A network with random weights and the same share of random zeros in every layer."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = build_model(name)
    with torch.no_grad():
        for weight in prunable_parameters(model).values():
            zeros = torch.randperm(weight.numel(), generator=generator)
            weight.view(-1)[zeros[: round(sparsity * weight.numel())]] = 0
            weight.div_((1 - sparsity) ** 0.5)  # activations keep their scale
    save_model(model, path)
    return load_artifact(path)


def lengths_and_threads(artifacts: Sequence[Artifact]) -> Benchmark:
    """A model at many lengths, with one thread and two."""
    engines = ("onnxruntime", "mnn", "native")
    return benchmark(artifacts, threads=(1, 2), frames=_LENGTHS, engines=engines, rounds=_ROUNDS)


def callers(network: Callable[[], Network], bins: int, count: int = 2) -> dict[str, float]:
    """How many times as many utterances a second several callers embed as one does.

    Args:
        network: Makes a network of one thread, with a workspace of its own.
        bins: Features of a frame.
        count: How many callers.
    """
    feats = np.random.default_rng(0).normal(size=(1, _FRAMES, bins)).astype(np.float32)
    networks = [network() for _ in range(count)]
    alone, together = [], []
    with ThreadPoolExecutor(count) as pool:
        for _ in range(_ROUNDS):
            alone.append(1 / sum(pool.map(_rate(feats), networks[:1])))
            together.append(1 / sum(pool.map(_rate(feats), networks)))
    return {"callers": count, **asdict(paired_speedup(together, alone))}


def _rate(feats: np.ndarray[Any, Any]) -> Callable[[Network], float]:
    def utterances_a_second(network: Network) -> float:
        calls, start = 0, time.perf_counter()
        while (now := time.perf_counter()) - start < _TURN_SECONDS:
            network(feats)
            calls += 1
        return calls / (now - start)

    return utterances_a_second


def block_masks() -> list[dict[str, Any]]:
    """Matrices whose zeros come in blocks of four rows, against masks without such a pattern."""
    rng, engine = np.random.default_rng(0), Engine()
    measured = []
    for size in (512, 1024, 1536):
        for sparsity in SPARSITIES:
            weight = rng.normal(size=(size, size)).astype(np.float32)
            free = weight * (rng.random(weight.shape) >= sparsity)
            shared = rng.random((size // BLOCK, size)) >= sparsity
            blocks = weight * np.repeat(shared, BLOCK, axis=0)
            unstructured = matrix_seconds(engine, free, 1)
            in_blocks = matrix_seconds(engine, blocks, BLOCK)
            measured.append(
                {
                    "shape": [size, size],
                    "sparsity": sparsity,
                    "unstructured_us": 1e6 * unstructured,
                    "blocks_us": 1e6 * in_blocks,
                    "speedup": unstructured / in_blocks,
                }
            )
    return measured


def _rows(artifacts: Sequence[Artifact]) -> Benchmark:
    return benchmark(artifacts, threads=(1,), frames=(_FRAMES,))


def _measured(models: Sequence[str], trained: Sequence[Path]) -> Iterator[dict[str, Any]]:
    with TemporaryDirectory() as folder:
        for name in models:
            print(name, file=sys.stderr)
            artifacts = [
                masked(name, sparsity, Path(folder, f"{name}-{sparsity}.safetensors"))
                for sparsity in SPARSITIES
            ]
            yield {"model": name, "masks": "random", **_json(_rows(artifacts))}
        for run in trained:
            print(run, file=sys.stderr)
            artifact = load_artifact(run)
            assert artifact.architecture is not None
            name = artifact.architecture.name
            sparsity = weights_table(artifact).sparsity
            yield {
                "model": name,
                "masks": "trained",
                "sparsity": sparsity,
                **_json(_rows([artifact])),
            }


def _json(result: Benchmark) -> dict[str, Any]:
    rows = [{**asdict(row), "path": Path(row.path).name, "level": row.level} for row in result.rows]
    return {"engines": dict(result.machine.engines), "rows": rows}


def _in_detail(name: str) -> dict[str, Any]:
    """Of one model at 90 %: lengths, threads, callers, and how near each layer is to its bound."""
    with TemporaryDirectory() as folder:
        artifact = masked(name, 0.9, Path(folder, "model.safetensors"))
        native, half = Path(folder, "native"), Path(folder, "native-fp16")
        exporter = exporter_of(format_named("native"))
        exporter.write(artifact, native, DENSE)
        export_artifact(artifact, half, "native", precision=HALF)
        written = load_artifact(native)
        bins = artifact.front_end.num_mel_bins
        program = program_of(artifact)
        return {
            "model": name,
            "sparsity": 0.9,
            "lengths": _json(lengths_and_threads([artifact, load_artifact(half)])),
            "callers": callers(lambda: exporter.network(written, 1), bins),
            "layers": [asdict(each) for each in layer_speeds(Engine(), program, bins)],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures everything and writes it; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sparsify.benchmarks.engines", description="Speed of sparse models."
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--detail", nargs="*", default=("ecapa-tdnn-512", "resnet34"))
    parser.add_argument("--trained", nargs="*", type=Path, default=())
    options = parser.parse_args(arguments)
    result: dict[str, Any] = {
        "command": command_line(),
        "compiler": os.environ.get("CC", "cc"),  # with options that leave kernels out, perhaps
        "machine": asdict(describe_machine()),
        "block_masks": block_masks(),
        "models": [],
        "details": [],
    }
    for measured in _measured(options.models, options.trained):
        result["models"].append(measured)
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    for name in options.detail:
        print(name, "in detail", file=sys.stderr)
        result["details"].append(_in_detail(name))
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
