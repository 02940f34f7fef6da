"""What the files of a comparison must hold, wherever they come from (docs/compare.md)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from sparsify.comparison.cells import Scalar
from sparsify.recipe.validation import Fraction, OpenFraction, Section

FORMAT_VERSION = 2
LARGEST = 1e100  # charts add and multiply what they show

Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Positive = Annotated[float, Field(ge=0, le=LARGEST)]
Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]


class _Document(Section):
    """A part of a JSON file; what else is in it is of no concern."""

    model_config = ConfigDict(extra="allow", strict=True)


class Intervals(_Document):
    """Intervals of an evaluation, by the figure."""

    eer_percent: Annotated[list[Percent], Field(min_length=2, max_length=2)]
    resampled_eer_percent: list[Percent] | None = None


class Evaluated(_Document):
    """The figures of a test set."""

    eer_percent: Percent
    min_dcf: Positive
    confidence: Intervals | None = None
    trials: Count | None = None
    trials_sha256: str | None = None


class Validated(_Document):
    """The figures on validation speakers."""

    eer_percent: Percent
    min_dcf: Positive
    corrupted_eer_percent: Percent = 0.0  # missing where nothing is corrupted


class Identity(_Document):
    """What tells the trials of an evaluation from others."""

    trials_sha256: str | None = None


class EvaluationFile(_Document):
    """The file of an evaluation in a run directory."""

    test_set: Identity
    result: Evaluated


class Average(_Document):
    """Whether averaged weights were selected, and of which steps."""

    selected: bool
    steps: list[Count] = Field(default_factory=list)


class Summary(Validated):
    """What a comparison takes from the summary of a run."""

    sparsity: Fraction
    global_sparsity: Fraction
    macs: Fraction | None = None
    parameters: Count
    nonzero: Count
    steps: Count
    epochs: Positive
    seconds: Positive
    device: str
    selected_step: Count
    average: Average | None = None
    collapsed: str | None = None


class LatencyMachine(_Document):
    """Where latencies were measured."""

    cpu: str


class LatencyRow(_Document):
    """The latency of an artifact."""

    engine: str
    artifact: str
    threads: Count
    median_ms: Positive
    bytes: Count | None = None


class LatencyFile(_Document):
    """The file of latencies in a run directory."""

    machine: LatencyMachine
    rows: list[LatencyRow]


class Layer(_Document):
    """A prunable layer."""

    name: str
    parameters: Count
    nonzero: Count
    sparsity: Fraction


class Run(_Document):
    """A finished run."""

    run: str
    method: str
    collapsed: str | None = None
    target_sparsity: OpenFraction | None
    target_macs: OpenFraction | None = None
    seed: Count
    options: dict[str, Any] = Field(default_factory=dict)
    model: str
    width: Count | None = None
    data: str
    sparsity: Fraction
    global_sparsity: Fraction
    macs: Fraction | None = None
    eer_percent: Percent
    min_dcf: Positive
    validation: Validated
    tests: dict[str, Evaluated]
    parameters: Count
    nonzero: Count
    multiply_adds: Count | None = None
    mac_sparsity: Fraction | None = None
    bytes: Count
    zipped_bytes: Count
    bitmask_bytes: Count
    steps: Count
    epochs: Positive
    seconds: Positive
    device: str
    selected_step: Count
    averaged_steps: list[Count] | None
    curves: dict[str, list[Number | None]]
    latency: LatencyFile | None
    layers: list[Layer]

    @model_validator(mode="after")
    def _columns_are_of_one_length(self) -> Run:
        lengths = {len(column) for column in self.curves.values()}
        if len(lengths) > 1 or (lengths and "step" not in self.curves):
            raise ValueError("curves: its columns differ in length, or 'step' is missing")
        return self


class Tried(_Document):
    """A training that a value was chosen from."""

    value: Scalar
    run: str
    error: str | None
    error_rate: Positive | None = None

    @model_validator(mode="after")
    def _has_failed_or_has_a_rate(self) -> Tried:
        if self.error is None and self.error_rate is None:
            raise ValueError("a training without an error needs its error_rate")
        return self


class Tuned(_Document):
    """What was chosen for a method, and from what."""

    method: str
    option: str
    target_sparsity: OpenFraction | None
    seed: Count
    chosen: Scalar | None
    tried: Annotated[list[Tried], Field(min_length=1)]


class NamedTest(_Document):
    """A test set."""

    name: str


class ResultsFile(_Document):
    """`results.json`, besides what follows from the rest."""

    command: str
    standing: str
    test_sets: list[NamedTest]
    recipe: dict[str, Any]
    runs: list[Run]
    tuning: list[Tuned]
    failures: dict[str, str]
