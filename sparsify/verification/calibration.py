"""Decision thresholds, with the model and the scoring that they are valid for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ConfigDict
from safetensors import SafetensorError

from sparsify.documents import parse_json, read_text, to_json
from sparsify.errors import SparsifyError, did_you_mean
from sparsify.files import check_writable, replacing, write_text
from sparsify.recipe.validation import Section, validate
from sparsify.verification.scoring import Scoring

FORMAT_VERSION = 1
CALIBRATION_FILE = "calibration.json"
_MOST_BYTES = 1 << 20
_MOST_ARRAY_BYTES = 1 << 28  # a quarter of a million speakers in 256 dimensions
_DIMENSIONS = {"mean": 1, "cohort": 2}  # of the arrays


@dataclass(frozen=True)
class Calibration:
    """From which score on two utterances count as one speaker's.

    Attributes:
        thresholds: By name of the operating point: `eer`, and `min-dcf-P` for each p_target P.
        scoring: How the scores were computed that the thresholds are for.
        model: Digest of the model.
    """

    thresholds: dict[str, float]
    scoring: Scoring
    model: str

    def threshold(self, name: str) -> float:
        """The threshold of an operating point.

        Raises:
            SparsifyError: There is none of that name.
        """
        if name not in self.thresholds:
            raise SparsifyError(
                f"no threshold '{name}' in the calibration, {did_you_mean(name, self.thresholds)}"
            )
        return self.thresholds[name]


class _Description(Section):
    """What the JSON file of a calibration holds."""

    model_config = ConfigDict(extra="ignore", strict=True)

    format_version: int
    model: str
    thresholds: dict[str, float]
    subtract_mean: bool
    score_norm: str | None
    top_n: int
    arrays: str | None


def calibration_of(model: Path, given: Path | None) -> Path | None:
    """The calibration that was named, or the one beside a model's file if there is one."""
    beside = model.parent / CALIBRATION_FILE
    return given or (beside if beside.is_file() else None)


def needs_calibration(operating_point: str) -> str:
    """What is missing where an operating point is named and nothing knows its threshold."""
    return (
        f"--at {operating_point} needs a calibration: give --calibration, or put"
        f" {CALIBRATION_FILE} beside the model"
    )


def check_calibration(path: Path) -> None:
    """Checks that a calibration can be written at `path`, before work is spent on it.

    Raises:
        SparsifyError: The name does not end in `.json`, or the file cannot be written.
    """
    if path.suffix != ".json":
        raise SparsifyError(f"cannot write '{path}': the name of a calibration must end in .json")
    check_writable(path)
    check_writable(_arrays_file(path))


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Writes a calibration as JSON; mean and cohort go into a file beside it.

    Raises:
        SparsifyError: A file cannot be written.
    """
    check_calibration(path)
    scoring = calibration.scoring
    arrays = {"mean": scoring.mean, "cohort": scoring.cohort}
    present = {name: array for name, array in arrays.items() if array is not None}
    digest = None
    if present:
        content = safetensors.numpy.save(present)
        digest = hashlib.sha256(content).hexdigest()
        with replacing(_arrays_file(path)) as temporary:
            temporary.write_bytes(content)
    description = {
        "format_version": FORMAT_VERSION,
        "model": calibration.model,
        "thresholds": calibration.thresholds,
        "subtract_mean": scoring.mean is not None,
        "score_norm": None if scoring.cohort is None else "as-norm",
        "top_n": scoring.top_n,
        "arrays": digest,
    }
    write_text(path, to_json(description, indent=2) + "\n")


def read_calibration(path: Path, model: str) -> Calibration:
    """Reads the calibration of a model.

    Args:
        path: The JSON file.
        model: Digest of the model that is to use it.

    Raises:
        SparsifyError: The file is missing, damaged, of a newer version or of another model, or its
            arrays are missing or of another calibration.
    """
    try:
        content = parse_json(read_text(path, _MOST_BYTES), "it")
        found = validate(_Description, content, "it")
    except FileNotFoundError as error:
        raise SparsifyError(
            f"no calibration '{path}': make one with `sparsify evaluate --calibrate`"
        ) from error
    except SparsifyError as error:
        raise SparsifyError(f"'{path}' is not a calibration, {error}: make it anew") from error
    if found.format_version != FORMAT_VERSION:
        raise SparsifyError(
            f"'{path}' has format version {found.format_version}: update sparsify to read it"
        )
    if found.model != model:
        raise SparsifyError(
            f"'{path}' was made with another model: calibrate this one with"
            " `sparsify evaluate --calibrate`"
        )
    arrays = _arrays(path, found.arrays) if found.arrays else {}
    said = found.subtract_mean, found.score_norm is not None
    if said != ("mean" in arrays, "cohort" in arrays):
        raise SparsifyError(
            f"'{path}' says another scoring than it has arrays for: calibrate again with"
            " `sparsify evaluate --calibrate`"
        )
    scoring = Scoring(arrays.get("mean"), arrays.get("cohort"), found.top_n)
    return Calibration(found.thresholds, scoring, model)


def _arrays_file(path: Path) -> Path:
    return path.with_suffix(".arrays.safetensors")  # not what a model would be called


def _arrays(path: Path, digest: str) -> dict[str, NDArray[Any]]:
    file = _arrays_file(path)
    if not file.is_file():
        raise SparsifyError(f"'{path}' needs '{file}', which is missing: keep the two together")
    if file.stat().st_size > _MOST_ARRAY_BYTES:
        raise SparsifyError(f"'{file}' is larger than {_MOST_ARRAY_BYTES >> 20} MiB")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise SparsifyError(f"'{file}' is not the one that '{path}' was written with")
    try:
        arrays: dict[str, NDArray[Any]] = safetensors.numpy.load(content)
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        raise SparsifyError(f"'{file}' is damaged: {error}") from error
    for name, array in arrays.items():
        numbers = array.dtype.kind == "f" and np.isfinite(array).all()
        if not numbers or array.ndim != _DIMENSIONS.get(name, array.ndim):
            raise SparsifyError(f"'{file}' is damaged: {name} is {array.dtype} {array.shape}")
    return arrays
