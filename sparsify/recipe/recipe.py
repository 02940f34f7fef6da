"""The recipe: everything that determines a training run, validated before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from sparsify.documents import MOST_YAML_BYTES, parse_yaml, read_text
from sparsify.errors import SparsifyError, did_you_mean
from sparsify.recipe.layout import compact, to_yaml
from sparsify.recipe.sections import (
    AugmentSection,
    DataSection,
    DistillationSection,
    FrontEnd,
    ModelSection,
    ObjectiveSection,
    TrainingSection,
)
from sparsify.recipe.validation import OpenFraction, Options, Section, shown, validate
from sparsify.recipe.words import SYNTHETIC, recipe_names

_MOST_GENERATIONS = 16  # of recipes that extend each other
LEFT_OUT = "(left out)"
"""What a recipe that is shipped has in place of a path."""
_PATHS = {
    "model": ("init_from",),
    "data": ("path", "validation_trials", "validation_root"),
    "augment": ("noise", "reverb"),
    "distillation": ("teacher",),
}


class Recipe(Section):
    """A complete training configuration.

    Attributes:
        name: Of the recipe; a training keeps it and does nothing else with it.
        method: Registered name of the way to get sparse.
        target_sparsity: Share of exact zeros among the prunable parameters; 0.9 where no target is
            given, and `null` where the other is.
        target_macs: In its place, the share of the dense network's multiply-adds that is left.
        seed: Of everything random.
        methods: Options by method name; those of other methods are ignored, so that one recipe
            serves them all.
    """

    name: str = "custom"
    method: str = "adabreg"
    target_sparsity: OpenFraction | None = 0.9
    target_macs: OpenFraction | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    front_end: FrontEnd = FrontEnd()
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    augment: AugmentSection = AugmentSection()
    objective: ObjectiveSection = ObjectiveSection()
    distillation: DistillationSection = DistillationSection()
    training: TrainingSection = TrainingSection()
    methods: dict[str, Options] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _one_target_takes_the_place_of_the_default(cls, content: Any) -> Any:
        if isinstance(content, Mapping) and content.get("target_macs") is not None:
            return {"target_sparsity": None, **content}
        return content

    @model_validator(mode="after")
    def _there_is_one_target(self) -> Self:
        sparsity, macs = self.target_sparsity, self.target_macs
        if sparsity is not None and macs is not None:
            raise ValueError(
                f"target_sparsity {sparsity:g} and target_macs {macs:g} exclude each other: set one"
                " to null, or give --target-sparsity or --target-macs, which does"
            )
        if sparsity is None and macs is None:
            raise ValueError("there is no target: give target_sparsity or target_macs")
        return self

    @model_validator(mode="after")
    def _large_margin_has_a_speed(self) -> Self:
        if self.large_margin_begins < self.training.steps and 1.0 not in self.speeds:
            raise ValueError("objective.large_margin needs 1.0 among augment.speeds")
        return self

    @model_validator(mode="after")
    def _speakers_are_known_where_needed(self) -> Self:
        if self.data.layout == "unlabelled" and self.needs_speakers:
            raise ValueError(
                "of unlabelled speech nobody knows who speaks: learn from a distillation.teacher"
                " with distillation.labels false, and give data.validation_trials"
            )
        return self

    @property
    def needs_speakers(self) -> bool:
        """Whether it matters who speaks in the training speech."""
        return self.distillation.labels or self.data.validation_trials is None

    @property
    def speeds(self) -> tuple[float, ...]:
        """The playback speeds; one is always there."""
        return self.augment.speeds or (1.0,)

    @property
    def large_margin_begins(self) -> int:
        """After how many steps the large-margin fine-tuning begins."""
        return round(self.objective.large_margin.begin * self.training.steps)

    def in_pieces(self, processes: int) -> Self:
        """The recipe with at least one micro-batch for each of several processes."""
        pieces = max(self.training.micro_batches, processes)
        training = self.training.model_copy(update={"micro_batches": pieces})
        return self.model_copy(update={"training": training})

    def without_paths(self) -> Self:
        """The recipe as it is shipped: it says that files were read, and not where they are."""
        sections = {}
        for name, keys in _PATHS.items():
            section = getattr(self, name)
            named = [key for key in keys if getattr(section, key) not in (None, SYNTHETIC)]
            sections[name] = section.model_copy(update=dict.fromkeys(named, LEFT_OUT))
        return self.model_copy(update=sections)

    def to_yaml(self) -> str:
        """The resolved recipe, readable by `load_recipe`."""
        return to_yaml(compact(self.model_dump(mode="json")))


def load_recipe(
    source: str | Path,
    assignments: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Recipe:
    """Reads and validates a recipe.

    Args:
        source: Name of a shipped recipe, or a YAML file; its key `extends` names the recipe, or the
            file beside it, whose keys it takes over and changes.
        assignments: `key=value` pairs with dotted keys, the value in YAML.
        changes: Dotted keys and values that are applied after `assignments`.

    Raises:
        SparsifyError: The file is missing or malformed, or a key or value does not fit.
    """
    content = _read(source)
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise SparsifyError(f"'{assignment}' is not of the form key=value")
        _assign(content, key.strip(), parse_yaml(value, f"the value of '{key.strip()}'"))
    for key, value in (changes or {}).items():
        _assign(content, key, value)
    return parse_recipe(content, str(source))


def parse_recipe(content: Mapping[str, Any], origin: str) -> Recipe:
    """Validates a recipe that is already in memory; `origin` names it in errors.

    Raises:
        SparsifyError: A key or value does not fit.
    """
    return validate(Recipe, content, f"recipe '{origin}'")


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The content of `base` with `changes`, section by section."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _merged(below, value)
        else:
            merged[key] = value
    return merged


def _read(source: str | Path, children: tuple[str, ...] = ()) -> dict[str, Any]:
    path, what = Path(source), f"recipe '{source}'"
    if str(source) in recipe_names():
        text = resources.files("sparsify.recipes").joinpath(f"{source}.yaml").read_text("utf-8")
    else:
        text = _text(path)
    content: Any = parse_yaml(text, what)
    if not isinstance(content, dict):
        raise SparsifyError(f"{what} must be a mapping of keys to values")
    parent: Any = content.pop("extends", None)
    if parent is None:
        return content
    if not isinstance(parent, str):
        raise SparsifyError(f"{what} extends {shown(parent)}: name a recipe or a file")
    if parent not in recipe_names():
        parent = path.parent / parent
    family = (*children, str(source))
    if str(parent) in family:
        raise SparsifyError(f"{what} extends itself, by way of '{parent}'")
    if len(family) >= _MOST_GENERATIONS:
        raise SparsifyError(f"{what} is the {len(family)}th of recipes that extend each other")
    return _merged(_read(parent, family), dict(content))


def _text(path: Path) -> str:
    try:
        if path.is_file():
            return read_text(path, MOST_YAML_BYTES)
    except OSError as error:
        raise SparsifyError(f"cannot read recipe '{path}': {error.strerror}") from error
    raise SparsifyError(
        f"no recipe '{path}': give a YAML file or a shipped one,"
        f" {did_you_mean(str(path), recipe_names())}"
    )


def _assign(content: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    node = content
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise SparsifyError(f"cannot set {dotted}: '{parent}' is not a section")
    node[last] = value
