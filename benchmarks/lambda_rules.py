"""A study of the λ rules: how sparsity, λ and the weights move in many trainings of a tiny model.

Run it as `python -m sparsify.benchmarks.lambda_rules --work FOLDER [--plots FOLDER]`. With
`SPARSIFY_SPEECH_MINI` set it trains on real speech and verifies the test speakers; without, it
trains on synthetic speakers and only the validation EER is known. It can be stopped and started
again: complete runs are not repeated, and an interrupted one goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from statistics import pstdev
from typing import Any

import numpy as np

from sparsify.benchmarks.lambda_rules_plot import markdown, write_plots
from sparsify.benchmarks.machine import describe_machine
from sparsify.errors import SparsifyError
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.files import replacing
from sparsify.methods.registry import resolve
from sparsify.recipe.recipe import Recipe, load_recipe
from sparsify.training.run_directory import RunDirectory
from sparsify.training.trainer import train
from sparsify.verification.evaluate import evaluate
from sparsify.verification.trials import read_trials

MODULE = "sparsify.benchmarks.lambda_rules"
VARIABLE = "SPARSIFY_SPEECH_MINI"
CONDITIONS = ("test", "test_noisy")
RESULTS = Path("benchmarks/results/lambda_rules.json")
METHODS = ("adabreg", "linbreg")
TARGETS = (0.75, 0.9, 0.95, 0.99)
RULES = ("adaptive", "smoothed", "quantile")

# What differs from `speech-mini`: a minute and a half of one core, and a record every few steps. So
# short a training verifies better when it need not tell the same voice at other speeds apart.
TINY: dict[str, Any] = {
    "name": "lambda-rules",
    "model.options": {"channels": 64, "aggregation_channels": 192, "embedding_dim": 128},
    "augment.speeds": [1.0],
    "training.steps": 500,
    "training.batch_size": 32,
    "training.compile": False,
    "training.workers": 0,
    "training.log_every": 5,
    "training.validate_every": 125,
}

SETTLED = 0.005  # at most so far from the target the sparsity counts as there
POINTS = 100  # of a trajectory in the results

Row = dict[str, Any]
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """A part of the matrix: every method with every rule, target and seed.

    Attributes:
        rules: By the name that rows give them, options of the method and, with a dot in the key, of
            the recipe.
        methods: Methods.
        targets: Target sparsities.
        seeds: Seeds, unless others are asked for.
    """

    rules: Mapping[str, Mapping[str, Any]]
    methods: tuple[str, ...] = METHODS
    targets: tuple[float, ...] = TARGETS
    seeds: tuple[int, ...] = (0,)


BATCH_NORM = "training.batch_norm_batches"
# A rule is alone until the end, where landing at the last step only makes the model deliverable;
# nothing mends the statistics of batch norm.
ALONE: Row = {"lambda_rule": "adaptive", "landing": 1.0, BATCH_NORM: 0}
GIVEN: Row = {"lambda_value": 0.1}  # about where the adaptive rule takes λ at 90 %
NAIVE: Row = ALONE | {"lr": 0.01, "lambda_value": 2.0, "every": 10, "ramp": 0.0}
STUDIES = {
    "rules": Study({rule: ALONE | {"lambda_rule": rule} for rule in RULES}),
    # Three quarters under the rule, then the support is held.
    "landed": Study(
        {
            "adaptive": {"lambda_rule": "adaptive", BATCH_NORM: 0},
            "adaptive-4": {"lambda_rule": "adaptive", "alpha": 4.0, BATCH_NORM: 0},
            "quantile": {"lambda_rule": "quantile", BATCH_NORM: 0},
        }
    ),
    "default": Study({"default": {BATCH_NORM: 50}}, seeds=(0, 1, 2)),
    # With a λ and a learning rate of the paper's size, where nothing stops λ in the end.
    "collapse": Study(
        {
            f"{precision}-{statistics}": NAIVE
            | {"training.precision": precision, BATCH_NORM: batches}
            for precision in ("fp32", "bf16")
            for statistics, batches in (("running", 0), ("anew", 20))
        },
        methods=("adabreg",),
        targets=(0.95,),
    ),
    # The reference of `keep_weights` is the adaptive rule of the study "rules". `rescale` needs a λ
    # from the first step, so that its reference is the adaptive rule from the same λ on.
    "ablations": Study(
        {
            "keep_weights": ALONE | {"lambda_change": "keep_weights"},
            "rescale": ALONE | GIVEN | {"lambda_change": "rescale"},
            "given_lambda": ALONE | GIVEN,
        },
        targets=(0.9,),
    ),
}


@dataclass(frozen=True)
class Case:
    """One training of a study; its fields are the key of its row."""

    study: str
    method: str
    rule: str
    target: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its run directory."""
        return f"{self.study}-{self.method}-{self.rule}-{self.target:g}-seed{self.seed}"

    def recipe(self, data: str) -> Recipe:
        """The tiny recipe with what the case sets."""
        changes = {"method": self.method, "target_sparsity": self.target, "seed": self.seed}
        for key, value in STUDIES[self.study].rules[self.rule].items():
            changes[key if "." in key else f"methods.{self.method}.{key}"] = value
        return load_recipe("speech-mini", changes=TINY | changes | {"data.path": data})


def cases(studies: Iterable[str], seeds: Sequence[int] = ()) -> Iterator[Case]:
    """The matrix of some studies; `seeds` replaces those of each study."""
    for name, study in ((name, STUDIES[name]) for name in studies):
        axes = (seeds or study.seeds, study.targets, study.methods, study.rules)
        yield from (Case(name, m, rule, target, seed) for seed, target, m, rule in product(*axes))


def run_one(case: Case, work: Path, speech: Path | None) -> Row:
    """Trains a case, if that is not done, and measures it; a divergence is a result too.

    Raises:
        SparsifyError: The data or the run directory are unusable.
    """
    recipe = resolve(case.recipe(str(speech / "train") if speech else "synthetic"))
    options = recipe.methods[case.method]
    output = work / case.name
    figures: Row = {"diverged": False}
    try:
        summary = finished(recipe, output)
        figures |= {
            "delivered_sparsity": summary["sparsity"],
            "validation_eer_percent": summary["eer_percent"],
            "validation_corrupted_eer_percent": summary["corrupted_eer_percent"],
            "seconds": summary["seconds"],
        }
        if speech:
            figures |= verify(output, speech)
    except SparsifyError as error:
        if not any(sign in str(error) for sign in ("training diverged", "scores are not finite")):
            raise
        figures["diverged"] = True
    records = RunDirectory(output).metrics()
    landing = round(options["landing"] * recipe.training.steps)
    before = [record for record in records if record["step"] < landing]
    trajectory = records if case.study in ("landed", "default") else before
    measured = measures(trajectory, case.target, recipe.training.steps)
    final_error = 100 * (before[-1]["sparsity"] - case.target) if before else None
    measured["final_error_points"] = _rounded(final_error)
    return asdict(case) | {"options": options} | figures | measured | thinned(trajectory)


def finished(recipe: Recipe, output: Path) -> Row:
    """The summary of a run, which is first trained or resumed if it is not complete.

    Raises:
        SparsifyError: The run is of another recipe, or training fails.
    """
    run = RunDirectory(output)
    started = run.recipe_file.exists()
    if started and resolve(run.saved_recipe()) != resolve(recipe):
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


def measures(trajectory: Sequence[Record], target: float, steps: int) -> Row:
    """How the sparsity comes to the target, and what it costs in λ and norm.

    Args:
        trajectory: Records before landing, or all of them where landing is part of the method.
        target: Sparsity wanted.
        steps: Length of the training.

    Returns:
        `settled_at`: share of the training after which the sparsity stays within half a point of
        the target, or `None`. `overshoot_points`: largest excess over the target since it first
        came so near, or `None`. `oscillation_points`: standard deviation of the sparsity over the
        last quarter of the training. `lambda_final`, `lambda_max` and `weight_norm_final`.
    """
    excess = [record["sparsity"] - target for record in trajectory]
    near = [abs(value) <= SETTLED for value in excess]
    away = max((place for place, is_near in enumerate(near) if not is_near), default=-1)
    late = [record["sparsity"] for record in trajectory if record["step"] > 0.75 * steps]
    lambdas = [record["lambda"] for record in trajectory]
    found = {
        "settled_at": trajectory[away + 1]["step"] / steps if away + 1 < len(near) else None,
        "overshoot_points": 100 * max(0.0, *excess[near.index(True) :]) if any(near) else None,
        "oscillation_points": 100 * pstdev(late) if late else None,
        "lambda_final": lambdas[-1] if lambdas else None,
        "lambda_max": max(lambdas, default=None),
        "weight_norm_final": trajectory[-1]["weight_norm"] if trajectory else None,
    }
    return {key: _rounded(value) for key, value in found.items()}


def thinned(trajectory: Sequence[Record]) -> Row:
    """At most `POINTS` records as columns, the first and the last among them."""
    places = np.linspace(0, len(trajectory) - 1, min(len(trajectory), POINTS)).round().astype(int)
    records = [trajectory[place] for place in places]
    columns = ("sparsity", "lambda", "weight_norm")
    return {"steps": [record["step"] for record in records]} | {
        column: [_rounded(record[column]) for record in records] for column in columns
    }


def _rounded(value: float | None) -> float | None:
    """Five significant digits; what is not finite has no place in JSON."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def read_rows(path: Path, head: Row) -> list[Row]:
    """The rows of earlier runs; those of other data or another recipe than `head` are refused."""
    if not path.exists():
        return []
    content = json.loads(path.read_text("utf-8"))
    if any(content[key] != head[key] for key in ("data", "recipe")):
        raise SparsifyError(f"'{path}' is of other data or another recipe: give another --output")
    return list(content["rows"])


def write_rows(path: Path, head: Row, rows: Iterable[Row]) -> None:
    """Replaces the results; a row is a line, which keeps trajectories out of the way."""
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        text = json.dumps(head, indent=1).removesuffix("\n}")
        temporary.write_text(f'{text},\n "rows": [\n  {lines}\n ]\n}}\n', "utf-8")


def run_all(names: Iterable[str], jobs: int) -> Iterator[Row]:
    """Rows as they come, each from a process of its own that computes with one thread."""
    executor = ThreadPoolExecutor(jobs)
    try:
        for future in as_completed([executor.submit(_in_process, name) for name in names]):
            yield future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _in_process(name: str) -> Row:
    command = [sys.executable, "-m", MODULE, *sys.argv[1:], "--one", name]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, env=one_thread, stdout=subprocess.PIPE, check=False)
    if process.returncode:
        raise SparsifyError(f"'{name}' failed")
    return dict(json.loads(process.stdout))


def main() -> None:
    """Runs what is missing, writes results as they come, draws and prints them."""
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}")
    parser.add_argument("--work", type=Path, required=True, help="folder of the run directories")
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON file, continued")
    parser.add_argument("--studies", default=",".join(STUDIES))
    parser.add_argument("--seeds", help="instead of each study's own")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--plots", type=Path, help="folder for figures; needs matplotlib")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # what a process of `run_all` does
    options = parser.parse_args()
    speech = Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None
    seeds = [int(seed) for seed in options.seeds.split(",")] if options.seeds else []
    chosen = {case.name: case for case in cases(options.studies.split(","), seeds)}
    head = {
        "command": shlex.join(["python", "-m", MODULE, *sys.argv[1:]]),
        "machine": asdict(describe_machine()),
        "data": "speech-mini" if speech else "synthetic",
        "recipe": load_recipe("speech-mini", changes=TINY).model_dump(mode="json"),
    }
    try:
        if options.one:
            print(json.dumps(run_one(chosen[options.one], options.work, speech)))
            return
        rows = read_rows(options.output, head)
        done = {Case(**{field.name: row[field.name] for field in fields(Case)}) for row in rows}
        for row in run_all([n for n, case in chosen.items() if case not in done], options.jobs):
            rows.append(row)
            write_rows(options.output, head, rows)
            print(f"{len(rows)} rows", file=sys.stderr)
    except SparsifyError as error:
        sys.exit(f"Error: {error}")
    if options.plots:
        write_plots(rows, options.plots)
    print(markdown(rows))


if __name__ == "__main__":
    main()
