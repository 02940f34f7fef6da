"""What a comparison consists of: runs of one recipe, of several methods, targets, seeds, widths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from sparsify.artifact.loading import load_artifact
from sparsify.artifact.seals import source_digest
from sparsify.audio._torchaudio import torchaudio_module
from sparsify.comparison.cells import Cell, Scalar
from sparsify.comparison.test_sets import VALIDATION, TestSet
from sparsify.comparison.widths import at_width
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
from sparsify.models.registry import Architecture
from sparsify.models.widths import options_of_width
from sparsify.recipe.layout import compact, to_yaml
from sparsify.recipe.recipe import Recipe
from sparsify.recipe.validation import Section, validate
from sparsify.recipe.words import SYNTHETIC
from sparsify.training.event_files import check_event_files
from sparsify.training.starting_network import start_of

PLAN_FILE = "comparison.yaml"


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

    def recipe_of(self, cell: Cell) -> ResolvedRecipe:
        """The recipe of one run.

        Raises:
            SparsifyError: The method is unknown, or its options do not fit or serve the target.
        """
        target, method = cell.target_sparsity, cell.method
        options = {**self.recipe.methods.get(method, {}), **dict(cell.options)}
        own: dict[str, object] = {
            "method": method,
            "seed": cell.seed,
            "methods": {method: options} if options else {},
        }
        if target is not None:
            own |= {"target_sparsity": target, "target_macs": None}
        recipe = self.recipe.model_copy(update=own)
        return resolve(recipe if cell.width is None else at_width(recipe, cell.width))

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
        check_event_files(self.recipe)
        for name, cells in _by_name(self.runs).items():
            if len(cells) > 1:
                both = " and ".join(str(cell.target_sparsity) for cell in cells)
                raise SparsifyError(
                    f"the targets {both} are too close to tell apart ('{name}'): take one"
                )
        for name in self.recipe.methods:
            pursues_target(name)  # a name that is a typo
        tried = dict(self._check_tuning(tuning) for tuning in self.tunings)
        tuned = {tuning.method for tuning in self.tunings}
        untuned = {cell.label: cell for cell in self.runs if cell.method not in tuned}
        recipes = {label: self.recipe_of(cell) for label, cell in untuned.items()}
        recipe = self.recipe
        for key, path in (
            ("data.path", None if recipe.data.path == SYNTHETIC else recipe.data.path),
            *_models(recipe).items(),
        ):
            if path is not None and not Path(path).exists():
                raise SparsifyError(f"{key}: there is no '{path}': check the path")
        self._check_widths()
        start = start_of(recipe)
        if start.weights is not None:
            for label, each in {**recipes, **tried}.items():
                _check_start(label, each, start.network, start.weights)
        names = [test.name for test in self.tests]
        for name in names:
            if names.count(name) > 1 or name == VALIDATION:
                raise SparsifyError(f"the test set name '{name}' is taken: choose another")
        for test in self.tests:
            test.check()

    def _check_widths(self) -> None:
        """Builds the network at every width that is asked for, without values."""
        model = self.recipe.model
        widths = {cell.width for cell in self.runs} - {None}
        owners = {"widths": "a shrunk network", "init_from": "a model to start from"}
        for key, whose in owners.items():
            if widths and getattr(model, key):
                raise SparsifyError(
                    f"model.{key}: {whose} has its own width: compare it without --widths"
                )
        architecture = Architecture(model.name, model.options)
        for width in sorted(width for width in widths if width is not None):
            own = Architecture(model.name, options_of_width(architecture, width))
            if not own.is_code:
                own.outline()

    def _check_tuning(self, tuning: Tuning) -> tuple[str, ResolvedRecipe]:
        """The label and the recipe of the first run that a tuning tries."""
        pursues_target(tuning.method)  # a name that is a typo
        if tuning.method not in {cell.method for cell in self.runs}:
            raise SparsifyError(f"--tune: '{tuning.method}' is not compared: add it to --methods")
        targets = {c.target_sparsity for c in self.runs if c.method == tuning.method}
        if len(targets) > 1 and depends_on_target(tuning.method, tuning.option):
            raise SparsifyError(
                f"--tune {tuning.method}.{tuning.option}: no value is right for several targets:"
                " give each target an --output of its own, and join them with sparsify report"
            )
        trials = self.trials_of(tuning).values()
        try:
            first, *_ = [(cell.label, self.recipe_of(cell)) for cell in trials]
        except SparsifyError as error:
            raise SparsifyError(f"--tune {tuning.method}.{tuning.option}: {error}") from error
        return first

    def write(self, folder: Path) -> None:
        """Writes the plan into the folder of the comparison, where `read_plan` finds it."""
        content = self.model_dump(mode="json")
        write_text(folder / PLAN_FILE, to_yaml({**content, "recipe": compact(content["recipe"])}))


def _check_start(
    label: str, recipe: ResolvedRecipe, network: nn.Module, start: Mapping[str, Tensor]
) -> None:
    """Refuses a model that the method of a run cannot start from."""
    network.load_state_dict(start)  # a method before may have changed them
    steps, selection = recipe.training.steps, recipe.model.selection
    target = recipe.target_sparsity
    assert target is not None  # `recipe_of` gives one
    try:
        build_method(recipe, Task(network, nn.Identity(), target, selection, steps, 0, True))
    except SparsifyError as error:
        raise SparsifyError(f"{label}: {error}") from error


def _by_name(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    named: dict[str, list[Cell]] = {}
    for cell in cells:
        named.setdefault(cell.name, []).append(cell)
    return named


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
            digests[key] = source_digest(artifact.arrays)
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
    varied = ("method", "target_sparsity", "target_macs")
    neutral = {name: Recipe.model_fields[name].default for name in varied}
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
