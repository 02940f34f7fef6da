"""The quality table: methods and sparsities on the evaluation set speech-mini, from one recipe.

Run it as `SPARSIFY_SPEECH_MINI=FOLDER python -m sparsify.benchmarks.speech_mini --work FOLDER`.
Runs that are complete are not repeated, so that it can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

from sparsify.benchmarks.inference import describe_machine
from sparsify.comparison.tables import spread
from sparsify.errors import SparsifyError
from sparsify.exporters.embedders import load_speaker_model
from sparsify.methods.registry import method_names
from sparsify.recipe import Recipe, load_recipe
from sparsify.training.run_directory import RunDirectory
from sparsify.training.trainer import train
from sparsify.verification.evaluate import evaluate
from sparsify.verification.trials import read_trials

VARIABLE = "SPARSIFY_SPEECH_MINI"
CONDITIONS = ("test", "test_noisy")

Row = dict[str, Any]


def run_one(method: str, target: float, seed: int, speech: Path, work: Path) -> Row:
    """Trains a model, if that is not done, and evaluates it on clean and noisy test speech."""
    changes = {
        "method": method,
        "target_sparsity": target,
        "seed": seed,
        "data.path": str(speech / "train"),
    }
    name = "dense" if method == "dense" else f"{method}-{target:g}"
    output = work / f"{name}-seed{seed}"
    summary = finished(load_recipe("speech-mini", changes=changes), output)
    validation = ("eer_percent", "corrupted_eer_percent", "min_dcf")
    return {
        f"validation_{key}" if key in validation else key: value
        for key, value in summary.items()
        if key != "output"
    } | verify(output, speech)


def finished(recipe: Recipe, output: Path) -> Row:
    """The summary of a run, which is first trained or resumed if it is not complete.

    Raises:
        SparsifyError: The run is of another recipe, or training fails.
    """
    run = RunDirectory(output)
    started = run.recipe_file.exists()
    if started and run.saved_recipe() != recipe:
        raise SparsifyError(f"'{output}' was trained with another recipe: give another --work")
    return run.summary() or train(recipe, output, resume=started)


def verify(output: Path, speech: Path) -> Row:
    """EER and minDCF of a run's model on clean and on noisy test speech."""
    model = load_speaker_model(output)
    trials = read_trials(speech / "trials.txt")
    row: Row = {}
    for condition in CONDITIONS:
        result = evaluate(model.embedder, trials, speech / condition, model.front_end)
        row[f"{condition}_eer_percent"] = result.eer_percent
        row[f"{condition}_min_dcf"] = result.min_dcf
    return row


def markdown(rows: Iterable[Row]) -> str:
    """The table: a line per method and target, means over seeds and their range."""
    grouped: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row["method"], row["target_sparsity"]), []).append(row)
    lines = [
        "| method | target | sparsity | nonzero | EER clean % | EER noisy % | minDCF | seeds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for (method, target), group in sorted(grouped.items(), key=lambda item: item[0][1]):
        cells = [
            method,
            f"{target:.0%}" if target else "–",
            " / ".join(sorted({f"{row['sparsity']:.3%}" for row in group})),
            f"{mean(row['nonzero'] for row in group):,.0f}",
            spread([row["test_eer_percent"] for row in group], ".2f"),
            spread([row["test_noisy_eer_percent"] for row in group], ".2f"),
            spread([row["test_min_dcf"] for row in group], ".3f"),
            str(len(group)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the matrix and writes results as they come."""
    parser = argparse.ArgumentParser(prog="python -m sparsify.benchmarks.speech_mini")
    parser.add_argument("--work", type=Path, required=True, help="folder of the run directories")
    parser.add_argument("--methods", default="dense,adabreg,linbreg", help=f"of {method_names()}")
    parser.add_argument("--targets", default="0.75,0.9,0.95")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--output", type=Path, help="JSON file; what it holds already is kept")
    options = parser.parse_args()
    if VARIABLE not in os.environ:
        parser.error(f"set {VARIABLE} to the folder of the evaluation set speech-mini")
    speech = Path(os.environ[VARIABLE])
    rows: list[Row] = []
    if options.output and options.output.exists():
        rows = json.loads(options.output.read_text("utf-8"))["rows"]
    for seed in map(int, options.seeds.split(",")):
        for method in options.methods.split(","):
            targets = ["0.9"] if method == "dense" else options.targets.split(",")
            for target in map(float, targets):
                row = run_one(method, target, seed, speech, options.work)
                same = ("method", "target_sparsity", "seed")
                rows = [r for r in rows if any(r[key] != row[key] for key in same)] + [row]
                print(json.dumps(row), file=sys.stderr, flush=True)
                if options.output:
                    content = {
                        "command": shlex.join(
                            ["python", "-m", "sparsify.benchmarks.speech_mini", *sys.argv[1:]]
                        ),
                        "machine": asdict(describe_machine()),
                        "recipe": load_recipe("speech-mini").model_dump(mode="json"),
                        "rows": rows,
                    }
                    options.output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(markdown(rows))


if __name__ == "__main__":
    main()
