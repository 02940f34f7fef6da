"""Latency of artifacts: is the sparse model any faster than the same network without zeros?

Run it as `python -m sparsify.benchmarks.inference PATH [--json]`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from sparsify.artifact.artifact import Artifact, load_artifact
from sparsify.artifact.formats import DENSE, RUNTIME, kinds_of_models
from sparsify.audio.parallel import available_cores
from sparsify.errors import SparsifyError
from sparsify.exporters.exporter import exporter_of
from sparsify.exporters.networks import PYTORCH, Network, torch_network
from sparsify.files import size_bytes
from sparsify.progress import Track, silent

_TIMED_RUNS = 3  # per turn, after one that is not timed


@dataclass(frozen=True)
class Machine:
    """Where latencies were measured; they mean nothing elsewhere.

    Attributes:
        cpu: Model name of the processor.
        isa: Widest vector instructions PyTorch uses.
        cores: Cores this process may use.
        torch: Version.
        onnxruntime: Version.
    """

    cpu: str
    isa: str
    cores: int
    torch: str
    onnxruntime: str


@dataclass(frozen=True)
class Latency:
    """Latencies of one network in one engine.

    Attributes:
        engine: That of an exporter, or `pytorch` (eager, as context).
        artifact: `sparse`, or `dense` for its twin without zeros.
        precision: Type of the weights, `fp32`.
        threads: Threads per call.
        batch: Utterances per call.
        frames: Frames per utterance.
        median_ms: Median milliseconds per call.
        p90_ms: Ninth decile.
        min_ms: Fastest call.
        speedup: Median of the first row with as many threads, which is the dense twin in
            onnxruntime, over this median.
        bytes: Size of the file.
    """

    engine: str
    artifact: str
    precision: str
    threads: int
    batch: int
    frames: int
    median_ms: float
    p90_ms: float
    min_ms: float
    speedup: float
    bytes: int


@dataclass(frozen=True)
class Candidate:
    """What takes turns: a loaded network, named by engine and artifact, and its file's size."""

    engine: str
    artifact: str
    network: Network
    bytes: int


@dataclass(frozen=True)
class Benchmark:
    """Latencies and the machine they were measured on."""

    machine: Machine
    rows: tuple[Latency, ...]


def benchmark(
    artifact: Artifact,
    *,
    frames: int = 200,
    batch: int = 1,
    rounds: int = 20,
    track: Track = silent,
) -> Benchmark:
    """Measures an artifact against its dense twin, with one thread and with all cores.

    A file of a format with an engine of its own is measured as it is, any other through a temporary
    ONNX export. The candidates take turns, so that a busy moment of the machine hits them all; each
    turn starts with an untimed call.

    Args:
        artifact: Any `.onnx`, or a model of ours in another format.
        frames: Frames per utterance; 200 are 2 s.
        batch: Utterances per call.
        rounds: Turns of each candidate, of three timed calls.
        track: Reports progress.

    Raises:
        SparsifyError: The model cannot be exported or run.
    """
    machine = describe_machine()
    shape = (batch, frames, artifact.front_end.num_mel_bins)
    feats = np.random.default_rng(0).normal(scale=3, size=shape).astype(np.float32)
    rows: list[Latency] = []
    # Denormals, which sparse training can leave behind, make PyTorch several times slower.
    torch.set_flush_denormal(True)
    try:
        with TemporaryDirectory() as folder:
            files = _files(artifact, Path(folder))
            for threads in sorted({1, machine.cores}):
                candidates = _candidates(artifact, files, threads)
                times: dict[Candidate, list[float]] = {each: [] for each in candidates}
                for _ in track(range(rounds), f"Latency, threads: {threads}", rounds):
                    for candidate in candidates:
                        times[candidate] += _turn(candidate.network, feats)
                rows += _rows(times, threads, feats)
    finally:
        torch.set_flush_denormal(False)
    return Benchmark(machine, tuple(rows))


def describe_machine() -> Machine:
    """The processor and the versions that latencies depend on."""
    return Machine(
        cpu=_cpu_model(),
        isa=torch.backends.cpu.get_cpu_capability(),
        cores=available_cores(),
        torch=torch.__version__,
        onnxruntime=onnxruntime.__version__,
    )


def _files(artifact: Artifact, folder: Path) -> list[tuple[str, Artifact]]:
    """What engines run: the dense twin and the model, first in the runtime all are compared with.

    A format whose engine is another follows with the same pair.
    """
    measured = [artifact] if exporter_of(artifact.format).engine != PYTORCH else []
    if artifact.format != RUNTIME and (artifact.rebuildable or not measured):
        sparse = folder / f"sparse{RUNTIME.suffixes[0]}"
        exporter_of(RUNTIME).write(artifact, sparse, DENSE)
        measured.insert(0, load_artifact(sparse, trust=artifact.trusted))
    twins = [_twin(each, folder) for each in measured]
    pairs = zip(twins, measured, strict=True)
    return [each for dense, sparse in pairs for each in (("dense", dense), ("sparse", sparse))]


def _twin(artifact: Artifact, folder: Path) -> Artifact:
    path = folder / f"dense{artifact.path.suffix}"
    exporter_of(artifact.format).twin(artifact, path)
    return load_artifact(path, trust=artifact.trusted)


def _candidates(
    artifact: Artifact, files: Iterable[tuple[str, Artifact]], threads: int
) -> list[Candidate]:
    candidates = []
    for name, file in files:
        exporter = exporter_of(file.format)
        network, size = exporter.network(file, threads), size_bytes(file.path)
        candidates.append(Candidate(exporter.engine, name, network, size))
    if artifact.rebuildable:
        network, size = torch_network(artifact.build(), threads), size_bytes(artifact.path)
        candidates.append(Candidate(PYTORCH, "sparse", network, size))
    return candidates


def _turn(network: Network, feats: NDArray[np.float32]) -> list[float]:
    """Milliseconds of a few calls; the first call, with another network's caches, is not timed."""
    network(feats)
    times = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        network(feats)
        times.append(1000 * (time.perf_counter() - start))
    return times


def _rows(
    times: Mapping[Candidate, list[float]], threads: int, feats: NDArray[np.float32]
) -> list[Latency]:
    medians = {candidate: float(np.median(measured)) for candidate, measured in times.items()}
    baseline = next(iter(medians.values()))
    return [
        Latency(
            engine=candidate.engine,
            artifact=candidate.artifact,
            precision="fp32",
            threads=threads,
            batch=feats.shape[0],
            frames=feats.shape[1],
            median_ms=medians[candidate],
            p90_ms=float(np.quantile(measured, 0.9)),
            min_ms=min(measured),
            speedup=baseline / medians[candidate],
            bytes=candidate.bytes,
        )
        for candidate, measured in times.items()
    ]


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark on one artifact; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sparsify.benchmarks.inference", description="Latency of an artifact."
    )
    parser.add_argument("path", help=kinds_of_models(embedding=True))
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--trust", action="store_true", help="run the code that the file names as its network"
    )
    options = parser.parse_args(arguments)
    try:
        artifact = load_artifact(options.path, trust=options.trust)
        result = benchmark(artifact, frames=options.frames, batch=options.batch)
    except SparsifyError as error:
        parser.error(str(error))
    if options.json:
        print(json.dumps(asdict(result), indent=2))
        return 0
    print(" ".join(f"{key}={value}" for key, value in asdict(result.machine).items()))
    for row in result.rows:
        print(
            f"{row.engine:<12} {row.artifact:<7} threads {row.threads:>2}"
            f"  median {row.median_ms:8.2f} ms  p90 {row.p90_ms:8.2f} ms  ×{row.speedup:.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
