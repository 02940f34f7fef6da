"""What a comparison consists of: runs of one recipe that differ in method, target and seed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, field_validator
from torch import Tensor, nn

from sparsify.artifact.artifact import load_artifact
from sparsify.artifact.seals import source_digest
from sparsify.audio._torchaudio import torchaudio_module
from sparsify.documents import MOST_YAML_BYTES, parse_yaml, read_text
from sparsify.errors import SparsifyError
from sparsify.files import write_text
from sparsify.methods.base import Task
from sparsify.methods.registry import (
    ResolvedRecipe,
    build_method,
    depends_on_target,
    pursues_target,
    resolve,
)
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.validation import OpenFraction, Section, validate
from sparsify.training.data import SYNTHETIC
from sparsify.training.networks import start_of
from sparsify.verification.embedding import locate
from sparsify.verification.trials import read_speakers, read_trials, speaker_numbers

logger = logging.getLogger(__name__)

PLAN_FILE = "comparison.yaml"
VALIDATION = "validation"
Scalar = bool | int | float | str


class Cell(Section):
    """One run of the grid.

    Attributes:
        method: Registered name.
        target_sparsity: The sparsity asked for; `None` for a method that pursues none.
        seed: Of everything random.
        options: Of the method, by name, where they are others than the recipe's.
    """

    method: str
    target_sparsity: OpenFraction | None
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    options: tuple[tuple[str, Scalar], ...] = ()

    @property
    def label(self) -> str:
        """Method and target, as in a gate: `adabreg@0.9`."""
        return cell_label(self.method, self.target_sparsity)

    @property
    def name(self) -> str:
        """The name of the run directory, such as `adabreg-0.9-seed0` or `gmp-0.9-seed0-lr=0.01`."""
        own = "".join(f"-{option}={value}" for option, value in self.options)
        return f"{self.label.replace('@', '-')}-seed{self.seed}{own}"


class TestSet(Section):
    """A trial list that every model is evaluated on.

    Attributes:
        name: Heads its figures in all results.
        trials: The trial list.
        audio_root: Folder that its names start from.
        speakers: A file of `utterance speaker` lines, if the names do not tell who speaks.
    """

    __test__ = False  # no test case, whatever pytest makes of the name

    name: str
    trials: str
    audio_root: str
    speakers: str | None = None

    @field_validator("name")
    @classmethod
    def _is_an_identifier(cls, name: str) -> str:
        """Gates and files are named after it."""
        if not (name.isascii() and name.isidentifier()):
            raise ValueError("give a name of letters, digits and _, a letter first")
        return name

    def check(self) -> None:
        """Refuses what could not be evaluated, and warns where there will be no intervals.

        Raises:
            SparsifyError: The list, an audio file or the list of speakers is missing or unusable.
        """
        root = Path(self.audio_root)
        try:
            trials = read_trials(self.trials)
            if not root.is_dir():
                raise SparsifyError(f"there is no folder '{root}'")
            if not trials.targets.any() or trials.targets.all():
                raise SparsifyError(f"'{self.trials}' needs target and nontarget trials")
            locate(trials.utterances, root)
            if (problem := self.speaker_problem()) is not None:
                if self.speakers is not None:
                    raise SparsifyError(problem)
                logger.warning("test set '%s': no confidence intervals: %s", self.name, problem)
        except SparsifyError as error:
            raise SparsifyError(f"test set '{self.name}': {error}") from error

    def speaker_problem(self) -> str | None:
        """Why it is not known who speaks in the trials, on which confidence intervals rest."""
        known = None if self.speakers is None else read_speakers(self.speakers)
        try:
            speaker_numbers(read_trials(self.trials), known)
        except SparsifyError as error:
            return str(error)
        return None


class Tuning(Section):
    """An option of a method whose value validation speakers choose.

    Attributes:
        method: Registered name.
        option: One of its options.
        values: What is tried, each in a training of its own.
    """

    method: str
    option: str
    values: Annotated[tuple[Scalar, ...], Field(min_length=2)]

    def extends(self, other: Tuning | None) -> bool:
        """Whether all that was tried before is tried, and perhaps more."""
        return (
            other is not None
            and (self.method, self.option) == (other.method, other.option)
            and set(self.values) >= set(other.values)
        )


class Plan(Section):
    """A comparison.

    Attributes:
        recipe: What all runs share; its method, target and seed mean nothing.
        models: Digests of the models that the recipe names, by its keys.
        runs: What is trained, in this order.
        tests: What is evaluated; the first gives the figures that stand for a run.
        tunings: What is chosen before, at most one option of a method.
        commands: The calls that made the plan what it is, for the record.
    """

    recipe: Recipe
    models: Mapping[str, str] = {}
    runs: tuple[Cell, ...]
    tests: tuple[TestSet, ...]
    tunings: tuple[Tuning, ...] = ()
    commands: tuple[str, ...] = ()

    @cached_property
    def _resolved(self) -> dict[Cell, tuple[Recipe, ResolvedRecipe]]:
        """The recipes of runs so far, and what they come from; copies of the plan share them."""
        return {}

    def recipe_of(self, cell: Cell) -> ResolvedRecipe:
        """The recipe of one run, whose options are validated when it is first asked for.

        Raises:
            SparsifyError: The method is unknown, or its options do not fit or serve the target.
        """
        shared, found = self._resolved.get(cell, (None, None))
        if found is None or shared is not self.recipe:
            found = resolve(self._recipe_of(cell))
            self._resolved[cell] = self.recipe, found
        return found

    def _recipe_of(self, cell: Cell) -> Recipe:
        target, method = cell.target_sparsity, cell.method
        options = {**self.recipe.methods.get(method, {}), **dict(cell.options)}
        own: dict[str, object] = {
            "method": method,
            "seed": cell.seed,
            "methods": {method: options} if options else {},
        }
        return self.recipe.model_copy(
            update=own if target is None else own | {"target_sparsity": target}
        )

    def trials_of(self, tuning: Tuning) -> dict[Scalar, Cell]:
        """The runs that a value is chosen from: the method's first run, with each value."""
        first = next(cell for cell in self.runs if cell.method == tuning.method)
        return {
            value: first.model_copy(update={"options": ((tuning.option, value),)})
            for value in tuning.values
        }

    def check(self) -> None:
        """Refuses before the first training what would fail after the last.

        Raises:
            SparsifyError: A method, one of its options, the network, the model it starts from, a
                trial list or a folder is unusable.
        """
        torchaudio_module("functional")  # which may not fit the installed torch
        for name, cells in _by_name(self.runs).items():
            if len(cells) > 1:
                both = " and ".join(str(cell.target_sparsity) for cell in cells)
                raise SparsifyError(
                    f"the targets {both} are too close to tell apart ('{name}'): take one"
                )
        for name in self.recipe.methods:
            pursues_target(name)  # a name that is a typo
        for tuning in self.tunings:
            self._check_tuning(tuning)
        tuned = {tuning.method for tuning in self.tunings}
        untuned = {cell.label: cell for cell in self.runs if cell.method not in tuned}
        for cell in untuned.values():
            self.recipe_of(cell)
        recipe = self.recipe
        for key, path in (
            ("data.path", None if recipe.data.path == SYNTHETIC else recipe.data.path),
            *_models(recipe).items(),
        ):
            if path is not None and not Path(path).exists():
                raise SparsifyError(f"{key}: there is no '{path}': check the path")
        start = start_of(recipe)
        tried = [next(iter(self.trials_of(tuning).values())) for tuning in self.tunings]
        if start.weights is not None:
            for cell in (*untuned.values(), *tried):
                self._check_start(cell, start.network, start.weights)
        names = [test.name for test in self.tests]
        for name in names:
            if names.count(name) > 1 or name == VALIDATION:
                raise SparsifyError(f"the test set name '{name}' is taken: choose another")
        for test in self.tests:
            test.check()

    def _check_tuning(self, tuning: Tuning) -> None:
        pursues_target(tuning.method)  # a name that is a typo
        if tuning.method not in {cell.method for cell in self.runs}:
            raise SparsifyError(f"--tune: '{tuning.method}' is not compared: add it to --methods")
        targets = {c.target_sparsity for c in self.runs if c.method == tuning.method}
        if len(targets) > 1 and depends_on_target(tuning.method, tuning.option):
            raise SparsifyError(
                f"--tune {tuning.method}.{tuning.option}: no value is right for several targets:"
                " give each target an --output of its own, and join them with sparsify report"
            )
        for cell in self.trials_of(tuning).values():
            try:
                self.recipe_of(cell)
            except SparsifyError as error:
                raise SparsifyError(f"--tune {tuning.method}.{tuning.option}: {error}") from error

    def _check_start(self, cell: Cell, network: nn.Module, start: Mapping[str, Tensor]) -> None:
        """Refuses a model that the method cannot start from."""
        recipe = self.recipe_of(cell)
        network.load_state_dict(start)  # a method before may have changed them
        steps, target, ignore = recipe.training.steps, recipe.target_sparsity, recipe.model.ignore
        try:
            build_method(recipe, Task(network, nn.Identity(), target, ignore, steps, 0, True))
        except SparsifyError as error:
            raise SparsifyError(f"{cell.label}: {error}") from error

    def write(self, folder: Path) -> None:
        """Writes the plan into the folder of the comparison, where `read_plan` finds it."""
        content = self.model_dump(mode="json")
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_text(folder / PLAN_FILE, text)


def cell_label(method: str, target: float | None) -> str:
    """Method and target, as in a gate: `adabreg@0.9`, or `dense` without a target."""
    return method if target is None else f"{method}@{target:g}"


def _by_name(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    named: dict[str, list[Cell]] = {}
    for cell in cells:
        named.setdefault(cell.name, []).append(cell)
    return named


def grid(methods: Iterable[str], targets: Sequence[float], seeds: Sequence[int]) -> list[Cell]:
    """All runs, seed by seed, so that a first result for everything comes early.

    A method that pursues no target is run once per seed.

    Raises:
        SparsifyError: A method is unknown, or a target or seed is out of range.
    """
    cells = []
    for seed, method in product(dict.fromkeys(seeds), dict.fromkeys(methods)):
        own = dict.fromkeys(targets) if pursues_target(method) else [None]
        cells += [
            validate(
                Cell, {"method": method, "target_sparsity": target, "seed": seed}, "comparison"
            )
            for target in own
        ]
    return cells


def model_digests(recipe: Recipe, *, trust: bool) -> dict[str, str]:
    """What tells the models that a recipe names from others, by the keys that name them.

    Args:
        recipe: Of the comparison.
        trust: Whether the file of a teacher may name code as its network.

    Raises:
        SparsifyError: A model cannot be read, or names code and is not trusted.
    """
    digests = {}
    for key, path in _models(recipe).items():
        try:
            artifact = load_artifact(path, trust=trust)
            if path == recipe.distillation.teacher:
                artifact.check_trust()
            digests[key] = source_digest(artifact.state)
        except SparsifyError as error:
            raise SparsifyError(f"{key}: {error}") from error
    return digests


def _models(recipe: Recipe) -> dict[str, str]:
    named = {
        "model.init_from": recipe.model.init_from,
        "distillation.teacher": recipe.distillation.teacher,
    }
    return {key: path for key, path in named.items() if path is not None}


def shared_recipe(recipe: Recipe) -> Recipe:
    """The recipe without what differs between runs, so that it can be compared with another."""
    neutral = {name: Recipe.model_fields[name].default for name in ("method", "target_sparsity")}
    return recipe.model_copy(update=neutral | {"seed": 0})


def read_plan(folder: Path) -> Plan | None:
    """The plan of the comparison in a folder, if there is one.

    Raises:
        SparsifyError: It is damaged.
    """
    file = folder / PLAN_FILE
    if not file.is_file():
        return None
    mend = "delete it and say all options of the comparison again; what is trained is kept"
    try:
        content = parse_yaml(read_text(file, MOST_YAML_BYTES), f"'{file}'")
        return validate(Plan, content, f"'{file}'")
    except SparsifyError as error:
        raise SparsifyError(f"{error}: {mend}") from error
