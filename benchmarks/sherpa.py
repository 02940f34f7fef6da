"""From audio to embedding: a model in sherpa-onnx against its native library, in one thread each.

Run it as `python -m sparsify.benchmarks.sherpa RUN WAV --output FILE`, with sherpa-onnx installed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from sparsify.artifact.loading import load_artifact
from sparsify.benchmarks.inference.speedup import paired_speedup
from sparsify.benchmarks.machine import command_line, describe_machine
from sparsify.exporters.export import export_artifact
from sparsify.exporters.native.engine import check, workspace
from sparsify.exporters.native.targets import LIBRARY
from sparsify.files import size_bytes

_SECONDS = (2, 10)
_ROUNDS, _CALLS = 25, 3

Embed = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def in_sherpa(model: Path, rate: int) -> Embed:
    """What sherpa-onnx computes of samples."""
    sherpa = importlib.import_module("sherpa_onnx")
    config = sherpa.SpeakerEmbeddingExtractorConfig(model=str(model), num_threads=1)
    extractor = sherpa.SpeakerEmbeddingExtractor(config)

    def embed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        stream = extractor.create_stream()
        stream.accept_waveform(rate, samples)
        stream.input_finished()
        return np.array(extractor.compute(stream), np.float32)

    return embed


def in_library(folder: Path) -> Embed:
    """What the library in a folder of ours computes of samples."""
    library = ctypes.CDLL(str(folder / LIBRARY))
    library.sparsify_workspace_bytes.restype = ctypes.c_size_t
    dimension = library.sparsify_embedding_dim()

    def embed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        size = library.sparsify_workspace_bytes(library.sparsify_frames(len(samples)))
        memory = kept.setdefault(size, workspace(size))
        embedding = np.empty(dimension, np.float32)
        pointers = (ctypes.c_void_p(each.ctypes.data) for each in (samples, memory, embedding))
        audio, place, result = pointers
        count = ctypes.c_int(len(samples))
        check(library.sparsify_embed_audio(audio, count, place, ctypes.c_size_t(size), result))
        return embedding

    kept: dict[int, NDArray[np.float32]] = {}
    return embed


def _turn(embed: Embed, samples: NDArray[np.float32]) -> float:
    """Milliseconds, the median of some calls after one that finds the caches cold."""
    embed(samples)
    times = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        embed(samples)
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sparsify.benchmarks.sherpa", description="Against sherpa-onnx."
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("wav", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    samples, rate = soundfile.read(options.wav, dtype="float32")
    artifact = load_artifact(options.run)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as home:
        model, folder = Path(home, "model.onnx"), Path(home, "native")
        for path, name in ((model, "onnx"), (folder, "native")):
            export_artifact(artifact, path, name)
        theirs, ours = in_sherpa(model, rate), in_library(folder)
        for seconds in _SECONDS:
            utterance = np.resize(samples, seconds * rate)
            one, other = theirs(utterance), ours(utterance)
            times: dict[Embed, list[float]] = {theirs: [], ours: []}
            for _ in range(_ROUNDS):
                for each in random.sample([theirs, ours], 2):
                    times[each].append(_turn(each, utterance))
            rows.append(
                {
                    "seconds": seconds,
                    "sherpa_ms": float(np.median(times[theirs])),
                    "native_ms": float(np.median(times[ours])),
                    "speedup": asdict(paired_speedup(times[ours], times[theirs])),
                    "cosine": float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)),
                }
            )
        sizes = {"onnx_bytes": size_bytes(model), "library_bytes": size_bytes(folder / LIBRARY)}
    result = {
        "command": command_line(),
        "machine": asdict(describe_machine({"sherpa-onnx": version("sherpa-onnx")})),
        "threads": 1,
        **sizes,
        "rows": rows,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
