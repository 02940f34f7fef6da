"""The commands of ours that a run takes, and which of them are done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsify.artifact.loading import load_artifact
from sparsify.comparison.cells import Cell
from sparsify.comparison.plan import Plan
from sparsify.comparison.rows import EVALUATIONS, LATENCY_FILE, read_json
from sparsify.comparison.schema import EvaluationFile
from sparsify.comparison.test_sets import TestSet
from sparsify.documents import to_json
from sparsify.errors import SparsifyError
from sparsify.files import write_text
from sparsify.methods.registry import resolve
from sparsify.models.names import names_code
from sparsify.training.devices import Device
from sparsify.training.run_directory import RunDirectory

RUNS = "runs"
LOGS = "logs"
TRAINING = "training"
CONFIDENCE = "95"


@dataclass(frozen=True)
class Command:
    """A command of ours, to be run.

    Attributes:
        doing: What it does, for the display.
        arguments: After `sparsify`.
        keep: Takes the JSON it printed.
    """

    doing: str
    arguments: Sequence[str]
    keep: Callable[[Any], None]


def evaluated(plan: Plan, cell: Cell, output: Path) -> list[str] | None:
    """The test sets that a trained run was evaluated on.

    `None` if it is not trained, or lacks the first test set, whose figures stand for a run.

    Raises:
        SparsifyError: The run is damaged.
    """
    run = RunDirectory(output / RUNS / cell.name)
    done = [test.name for test in plan.tests if _is_evaluated(run, test)]
    standing = done[:1] == [test.name for test in plan.tests[:1]]
    return done if run.summary() is not None and standing else None


def missing_commands(
    plan: Plan, cell: Cell, output: Path, device: Device, *, trust: bool = False
) -> Iterator[Command]:
    """The commands of a run that have left no file yet, in their order."""
    run = RunDirectory(output / RUNS / cell.name)
    if run.summary() is None:
        if run.recipe_file.is_file():
            start = ["--resume"]
        else:
            recipe = output / LOGS / f"{cell.name}.yaml"
            recipe.write_text(plan.recipe_of(cell).to_yaml(), "utf-8")
            start = ["--recipe", str(recipe)]
        options = ["--output", str(run.path), "--device", device, "--json"]
        options += ["--trust"] if trust or names_code(plan.recipe.model.name) else []
        yield Command(TRAINING, ["train", *start, *options], lambda summary: None)
    for test in plan.tests:
        if not _is_evaluated(run, test):
            yield _evaluation(plan, run, test)


def _evaluation(plan: Plan, run: RunDirectory, test: TestSet) -> Command:
    options = ["--trials", test.trials, "--audio-root", test.audio_root]
    if test.trial_label is not None:
        options += ["--trial-label", test.trial_label]
    if test.speaker_problem() is None:
        options += ["--confidence", CONFIDENCE, "--resampled"]
        if test.speakers is not None:
            options += ["--speakers", test.speakers]

    def keep(result: Any) -> None:
        file = _evaluation_file(run, test)
        file.parent.mkdir(exist_ok=True)
        _write_json(file, {"test_set": _identity(test), "result": result})

    return Command(
        f"evaluating on {test.name}",
        ["evaluate", str(run.path), *options, *_trusted(plan, run), "--json", "--quiet"],
        keep,
    )


def latency_command(plan: Plan, cell: Cell, output: Path) -> Iterator[Command]:
    """The measurement of a model, in every engine that is installed."""
    run = RunDirectory(output / RUNS / cell.name)
    if (run.path / LATENCY_FILE).is_file():
        return

    def keep(report: Any) -> None:
        kept = {key: report.get(key) for key in ("machine", "rows")}
        _write_json(run.path / LATENCY_FILE, kept)

    options = [*_trusted(plan, run), "--json", "--quiet"]
    yield Command("measuring latency", ["benchmark", str(run.path), *options], keep)


def check_recipe(plan: Plan, cell: Cell, output: Path) -> None:
    """Refuses a run directory that holds another run.

    Raises:
        SparsifyError: It was trained with another recipe.
    """
    run = RunDirectory(output / RUNS / cell.name)
    try:
        recipe = run.saved_recipe()
    except SparsifyError:  # there is none, or its training will say what is wrong
        return
    if resolve(recipe) != plan.recipe_of(cell):
        raise SparsifyError(
            f"'{run.path}' was trained with another recipe: give another --output, or delete it"
        )


def _trusted(plan: Plan, run: RunDirectory) -> list[str]:
    """The flag for a run's model whose network is code, which the plan, and so the user, names.

    Raises:
        SparsifyError: The model names another network than the plan.
    """
    name = plan.recipe.model.name
    if not names_code(name):
        return []
    found = load_artifact(run.model_file).architecture
    if found is None or found.name != name:
        raise SparsifyError(
            f"'{run.model_file}' is not of the network '{name}' that the comparison trains: delete"
            f" '{run.path}' to train it again"
        )
    return ["--trust"]


def _is_evaluated(run: RunDirectory, test: TestSet) -> bool:
    try:
        content = read_json(_evaluation_file(run, test), EvaluationFile)
    except SparsifyError:  # never made, or cut short by a crash: made again
        return False
    return bool(content["test_set"] == _identity(test))


def _evaluation_file(run: RunDirectory, test: TestSet) -> Path:
    return run.path / EVALUATIONS / f"{test.name}.json"


def _identity(test: TestSet) -> dict[str, str]:
    """What makes an evaluation the same: the trials, where their audio is, and who speaks."""
    return {
        "trials_sha256": _digest(test.trials),
        "audio_root": str(Path(test.audio_root).resolve()),
        "speakers_sha256": "" if test.speakers is None else _digest(test.speakers),
        **({"trial_label": test.trial_label} if test.trial_label else {}),
    }


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _write_json(file: Path, content: Any) -> None:
    write_text(file, to_json(content, indent=1) + "\n")
