"""Memory and start-up of training on a million utterances from a manifest.

Run it as `python -m sparsify.benchmarks.manifest [--utterances N] [--output FILE]`. A manifest of a
corpus like VoxCeleb2 is generated (its lines name a few short files over and over, so that crops
can be read); a fresh process then goes from nothing to the first batch, by itself and with loader
processes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile as sf

UTTERANCES = 1_000_000
SPEAKERS = 6_000
FILES = 100
SECONDS = 8.0
RATE = 16000
WORKERS = 2
STEPS = 200
BATCH = 64


def generate_manifest(folder: Path, utterances: int, suffix: str) -> Path:
    """Generates a manifest and the files that it names."""
    rng = np.random.default_rng(0)
    (folder / "wav").mkdir(exist_ok=True)
    for number in range(FILES):
        noise = 0.1 * rng.standard_normal(round(SECONDS * RATE))
        sf.write(folder / "wav" / f"{number:05d}.wav", noise, RATE)
    path = folder / f"manifest{suffix}"
    each = -(-utterances // SPEAKERS)
    with path.open("w", encoding="utf-8") as stream:
        if suffix == ".csv":
            stream.write("key,speaker,path,seconds\n")
        for number in range(utterances):
            speaker = f"id{number // each:05d}"
            key = f"dev/wav/{speaker}/{number * 7919 % 10**9:011d}/{number % each:05d}.wav"
            values = (key, speaker, f"wav/{number % FILES:05d}.wav", SECONDS)
            if suffix == ".csv":
                stream.write(",".join(map(str, values)) + "\n")
            else:
                row = dict(zip(("key", "speaker", "path", "seconds"), values, strict=True))
                stream.write(json.dumps(row) + "\n")
    return path


def measure_start(manifest: Path) -> dict[str, Any]:
    """Seconds and MB from an empty process to batches; call it in a process of its own."""
    peaks: dict[str, Any] = {}
    books = Books()
    import torch  # noqa: F401, PLC0415 - what the measurement is about

    peaks["torch imported"] = books.entry()
    from sparsify.corpus.cache import load_audio  # noqa: PLC0415
    from sparsify.corpus.corpus import split_speakers  # noqa: PLC0415
    from sparsify.corpus.layouts import load_corpus  # noqa: PLC0415
    from sparsify.recipe.recipe import parse_recipe  # noqa: PLC0415
    from sparsify.training.batches import CropBatches, training_batches  # noqa: PLC0415

    training = {"steps": STEPS, "batch_size": BATCH, "workers": WORKERS}
    recipe = parse_recipe({"data": {"path": str(manifest)}, "training": training}, "benchmark")
    peaks["sparsify imported"] = books.entry()
    books = Books()  # from here on without the imports
    corpus, cache = load_audio(load_corpus(manifest), RATE)
    peaks["manifest read"] = books.entry()
    train, _ = split_speakers(corpus, 10, recipe.seed)
    batches = CropBatches(train, cache, recipe)
    chosen = [batches.utterance(place) for place in range(BATCH)]
    peaks["utterances of the first batch known"] = books.entry()
    stream = training_batches(train, cache, recipe)
    waveforms, _ = next(stream)
    peaks["first batch"] = books.entry()
    if (len(chosen), len(waveforms)) != (BATCH, BATCH):
        raise RuntimeError(f"{len(chosen)} utterances and {len(waveforms)} crops")
    for _ in range(STEPS // 2):
        next(stream)
    workers = [process.pid for process in multiprocessing.active_children()]
    private = [_kib(Path(f"/proc/{worker}/smaps_rollup"), "Private_Dirty") for worker in workers]
    return {"peaks": peaks, "worker_private_mb": [round(kib / 1024, 1) for kib in private]}


def measure(utterances: int) -> dict[str, Any]:
    """`measure_start` for JSON lines and CSV, each in a fresh process."""
    results: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for suffix in (".jsonl", ".csv"):
            path = generate_manifest(Path(folder), utterances, suffix)
            command = [sys.executable, "-P", "-m", "sparsify.benchmarks.manifest"]
            found = subprocess.run(
                [*command, "--measure", str(path)], check=True, stdout=subprocess.PIPE, text=True
            )
            size = round(path.stat().st_size / 1e6, 1)
            results[suffix[1:]] = {"manifest_mb": size} | json.loads(found.stdout)
            path.unlink()
    return results


class Books:
    """Notes the time and the memory of what happens between its making and each entry."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def entry(self) -> dict[str, float]:
        """Seconds since the start, seconds of the processor, and the peak of the process in MB."""
        return {
            "seconds": round(time.perf_counter() - self.wall, 2),
            "cpu_seconds": round(time.process_time() - self.processor, 2),
            "peak_mb": round(_kib(Path("/proc/self/status"), "VmHWM") / 1024, 1),
        }


def _kib(path: Path, key: str) -> int:
    lines = path.read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def main() -> None:
    """Measures, prints a table and writes JSON."""
    module = "sparsify.benchmarks.manifest"
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--utterances", type=int, default=UTTERANCES)
    parser.add_argument("--output", type=Path, help="write the results here as JSON")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure_start(options.measure)))
        return
    from sparsify.benchmarks.machine import describe_machine  # noqa: PLC0415 - imports torch

    results = measure(options.utterances)
    content = {
        "command": f"python -m {module} --utterances {options.utterances}",
        "machine": asdict(describe_machine()),
        "utterances": options.utterances,
        "speakers": SPEAKERS,
        "results": results,
    }
    if options.output:
        options.output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    for suffix, result in results.items():
        print(f"\n{suffix}, {result['manifest_mb']} MB; private to a worker (MB):", end=" ")
        print(*result["worker_private_mb"], sep=", ")
        print("\n| after | seconds | of the processor | peak MB |\n|---|--:|--:|--:|")
        for name, figures in result["peaks"].items():
            seconds = f"{figures['seconds']:.2f} | {figures['cpu_seconds']:.2f}"
            print(f"| {name} | {seconds} | {figures['peak_mb']:.0f} |")


if __name__ == "__main__":
    main()
