"""The recipe: everything that determines a training run, validated before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sparsify.errors import SparsifyError, did_you_mean


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first number must not exceed the second")
    return pair


Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
FractionRange = Annotated[tuple[Fraction, Fraction], AfterValidator(_ascending)]


class Section(BaseModel):
    """A part of a recipe: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


class FrontEnd(Section):
    """How a waveform becomes features; travels with the artifact.

    Attributes:
        preset: `sherpa` (Povey window, band up to 400 Hz below Nyquist, frames centred; what
            sherpa-onnx computes) or `wespeaker` (Hamming window, full band, whole frames only).
        sample_rate: In Hz; audio at another rate is resampled.
        num_mel_bins: Filterbank size.
    """

    preset: Literal["sherpa", "wespeaker"] = "sherpa"
    sample_rate: int = Field(default=16000, ge=8000)
    num_mel_bins: int = Field(default=80, ge=8)


class ModelSection(Section):
    """Architecture name and its options.

    Attributes:
        name: A registered architecture or `module:factory`.
        options: Keyword arguments of the architecture, such as `channels`.
        ignore: Glob patterns of parameter names to protect from pruning.
        init_from: Run directory, artifact or state dict whose weights training starts from.
    """

    name: str = "ecapa-tdnn"
    options: dict[str, Any] = Field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    init_from: str | None = None


class DataSection(Section):
    """What is trained on.

    Attributes:
        path: Folder with one folder per speaker, or `synthetic`.
        crop_seconds: Length of a training crop.
        validation_speakers: Speakers held out of training for validation trials.
        synthetic_speakers: Number of built-in synthetic speakers.
        synthetic_utterances: Utterances per synthetic speaker.
    """

    path: str = "synthetic"
    crop_seconds: float = Field(default=1.5, gt=0.1)
    validation_speakers: int = Field(default=10, ge=2)
    synthetic_speakers: int = Field(default=48, ge=4)
    synthetic_utterances: int = Field(default=12, ge=2)


class AugmentSection(Section):
    """Seeded corruption of training crops; each part can be switched off with 0 or an empty list.

    Attributes:
        speeds: Playback speeds; each except 1.0 makes a new virtual speaker of every speaker.
        probability: Share of crops that are equalised and made noisy.
        equaliser_db: Standard deviation of the random smooth equalisation.
        noise_colour_db: Standard deviation of the random smooth spectrum of the noise.
        snr_db: Range of the signal-to-noise ratio.
    """

    speeds: tuple[Annotated[float, Field(ge=0.5, le=2)], ...] = (1.0, 0.9, 1.1)
    probability: Fraction = 0.6
    equaliser_db: float = Field(default=4.0, ge=0)
    noise_colour_db: float = Field(default=8.0, ge=0)
    snr_db: Range = (0.0, 20.0)


class ObjectiveSection(Section):
    """Additive angular margin softmax.

    Attributes:
        scale: Scale of the cosine logits.
        margin: Final angular margin in radians.
        margin_ramp: The margin grows from 0 between these shares of training.
    """

    scale: float = Field(default=32.0, gt=0)
    margin: float = Field(default=0.2, ge=0, lt=1.5)
    margin_ramp: FractionRange = (0.15, 0.5)


class TrainingSection(Section):
    """Length, batches, learning-rate shape and precision of a run.

    Attributes:
        steps: Optimizer steps in all.
        batch_size: Crops per step.
        warmup: Share of training in which the learning rate rises linearly.
        final_lr: Final learning rate as a share of the peak; reached on a cosine.
        gradient_clip: Largest norm of the gradient.
        batch_norm_batches: Batches over which the statistics of batch norm are averaged anew before
            a validation; 0 leaves the running averages.
        precision: `bf16` computes convolutions and products in bfloat16 (autocast); `auto` does so
            where the processor has the instructions.
        compile: Compile the network with torch.compile.
        workers: Data-loader processes; `None` chooses from the number of cores.
        log_every: Steps between records in `metrics.jsonl`.
        validate_every: Steps between validations and checkpoints.
    """

    steps: int = Field(default=1000, ge=1)
    batch_size: int = Field(default=64, ge=2)
    warmup: Fraction = 0.05
    final_lr: Fraction = 0.01
    gradient_clip: float = Field(default=5.0, gt=0)
    batch_norm_batches: int = Field(default=20, ge=0)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    workers: int | None = Field(default=None, ge=0)
    log_every: int = Field(default=20, ge=1)
    validate_every: int = Field(default=250, ge=1)


class Recipe(Section):
    """A complete training configuration.

    Attributes:
        method: Registered name of the way to get sparse.
        methods: Options by method name; those of other methods are ignored, so that one recipe
            serves them all.
        target_sparsity: Share of exact zeros among the prunable parameters.
    """

    name: str = "custom"
    method: str = "adabreg"
    target_sparsity: OpenFraction = 0.9
    seed: int = Field(default=0, ge=0, lt=2**31)
    front_end: FrontEnd = FrontEnd()
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    augment: AugmentSection = AugmentSection()
    objective: ObjectiveSection = ObjectiveSection()
    training: TrainingSection = TrainingSection()
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def to_yaml(self) -> str:
        """The resolved recipe, readable by `load_recipe`."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    folder = resources.files("sparsify.recipes")
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def load_recipe(
    source: str | Path,
    assignments: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> Recipe:
    """Reads and validates a recipe.

    Args:
        source: Name of a shipped recipe, or a YAML file.
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
        _assign(content, key.strip(), _parse(value, f"the value of '{key.strip()}'"))
    for key, value in (changes or {}).items():
        _assign(content, key, value)
    return parse_recipe(content, str(source))


def parse_recipe(content: Mapping[str, Any], origin: str) -> Recipe:
    """Validates a recipe that is already in memory; `origin` names it in errors.

    Raises:
        SparsifyError: A key or value does not fit.
    """
    return validate(Recipe, content, f"recipe '{origin}'")


def validate(section: type[S], content: Mapping[str, Any], where: str) -> S:
    """Validates `content`, turning pydantic's report into one sentence.

    Raises:
        SparsifyError: A key or value does not fit.
    """
    try:
        return section.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        key = ".".join(path)
        if first["type"] == "extra_forbidden":
            raise SparsifyError(
                f"{where}: unknown key '{key}', {_suggestion(section, path)}"
            ) from error
        if first["type"] == "missing":
            raise SparsifyError(f"{where}: '{key}' is missing and has no default") from error
        value = f"{key} = {first['input']!r} does not fit: " if key else ""
        message = first["msg"].removeprefix("Value error, ").lower()
        raise SparsifyError(f"{where}: {value}{message}") from error


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if str(source) in recipe_names():
        text = resources.files("sparsify.recipes").joinpath(f"{source}.yaml").read_text("utf-8")
    elif path.is_file():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise SparsifyError(f"recipe '{source}' is not UTF-8 text: {error}") from error
    else:
        raise SparsifyError(
            f"no recipe '{source}': give a YAML file or one of {', '.join(recipe_names())}"
        )
    content = _parse(text, f"recipe '{source}'")
    if not isinstance(content, dict):
        raise SparsifyError(f"recipe '{source}' must be a mapping of keys to values")
    return content


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise SparsifyError(f"{what} is not valid YAML: {problem}") from error


def _assign(content: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    node = content
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise SparsifyError(f"cannot set {dotted}: '{parent}' is not a section")
    node[last] = value


def _suggestion(section: type[Section], path: list[str]) -> str:
    node: Any = section
    for part in path[:-1]:
        node = node.model_fields[part].annotation
    return did_you_mean(path[-1], list(node.model_fields))
