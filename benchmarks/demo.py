"""The demonstration behind `make demo`: from nothing to a small model and its numbers.

Run it as `python -m sparsify.benchmarks.demo --output demo`. It drives the `sparsify` command as
a user would: trains on synthetic speakers to 90 % sparsity, inspects, exports to safetensors and
ONNX, and evaluates both files on speakers that were not trained on.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sparsify.corpus.synthetic import write_synthetic
from sparsify.verification.trials import make_trials, write_trials

COMMANDS_FILE = "commands.sh"
HELD_OUT_SEED = 1  # the recipe trains on the speakers of seed 0
SPEAKERS, UTTERANCES = 20, 8

Result = dict[str, Any]


class Demo:
    """Runs commands and keeps a record of them beside their output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / COMMANDS_FILE
        if folder.exists():
            if not self.log.is_file():
                sys.exit(f"Error: '{folder}' is not of an earlier demo: give another --output")
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        self.log.touch()

    def sparsify(self, *arguments: str | Path) -> Result:
        """Runs `sparsify … --json` and returns what it printed; ends with it when it fails."""
        words = ["sparsify", *map(str, arguments), "--json"]
        line = shlex.join(words)
        print(f"\n$ {line}", flush=True)
        with self.log.open("a") as log:
            log.write(f"{line}\n")
        program = Path(sysconfig.get_path("scripts"), "sparsify")
        finished = subprocess.run(
            [program, *words[1:]], stdout=subprocess.PIPE, text=True, check=False
        )
        if finished.returncode:
            sys.exit(finished.returncode)
        result: Result = json.loads(finished.stdout)
        return result

    def held_out_speakers(self) -> tuple[Path, Path]:
        """Writes speakers that training has not heard; returns their folder and trial list."""
        audio, trials = self.folder / "speakers", self.folder / "trials.txt"
        corpus = write_synthetic(audio, SPEAKERS, UTTERANCES, seed=HELD_OUT_SEED)
        keys = [utterance.key for utterance in corpus.utterances]
        speakers = [utterance.speaker for utterance in corpus.utterances]
        write_trials(make_trials(keys, speakers, seed=0), trials)
        return audio, trials


def run(folder: Path) -> None:
    """Runs the demonstration in `folder`, which is made anew."""
    demo = Demo(folder)
    model, packed, graph = folder / "run", folder / "model.safetensors", folder / "model.onnx"
    demo.sparsify(
        *("train", "--recipe", "quickstart", "--target-sparsity", "0.9", "--output", model)
    )
    inspected = demo.sparsify("inspect", model)
    bitmask = demo.sparsify(
        *("export", model, "--format", "safetensors", "--layout", "bitmask", "--output", packed)
    )
    onnx = demo.sparsify("export", model, "--format", "onnx", "--output", graph, "--benchmark")
    audio, trials = demo.held_out_speakers()
    rates = {
        path: demo.sparsify("evaluate", path, "--trials", trials, "--audio-root", audio)
        for path in (packed, graph)
    }
    latency = {
        row["artifact"]: f"{row['median_ms']:.2f}"
        for row in onnx["benchmark"]
        if row["engine"] == "onnxruntime" and row["threads"] == 1
    }
    table = Table(box=None, pad_edge=False)
    table.add_column("File", no_wrap=True)
    for heading in ("Sparsity", "EER", "Size", "Zipped", "Latency"):
        table.add_column(heading, justify="right")
    table.add_row(
        "dense twin of model.onnx",
        *("0.00%", ""),
        *(_size(onnx["dense_bytes"]), _size(onnx["dense_zipped_bytes"])),
        f"{latency['dense']} ms",
    )
    for path, report in ((packed, bitmask), (graph, onnx)):
        table.add_row(
            path.name,
            f"{100 * report['sparsity']:.2f}%",
            f"{rates[path]['eer_percent']:.2f}%",
            *(_size(report["bytes"]), _size(report["zipped_bytes"])),
            f"{latency['sparse']} ms" if report is onnx else "",
        )
    console = Console(highlight=False)
    console.print()
    console.print(table)
    console.print(
        f"\n{inspected['nonzero']:,} of {inspected['parameters']:,} parameters are left. EER: on"
        " synthetic speakers that were not trained on. Latency: 2 s of speech, onnxruntime, one"
        " thread; zeros alone do not make onnxruntime faster."
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB"


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sparsify.benchmarks.demo", description="The demonstration."
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="made anew")
    run(parser.parse_args().output)


if __name__ == "__main__":
    main()
