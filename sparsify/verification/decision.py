"""What decides away from sparsify: a threshold and what is subtracted before, in plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sparsify.errors import SparsifyError
from sparsify.verification.calibration import read_calibration


@dataclass(frozen=True)
class Decision:
    """From which score on two recordings count as one speaker's.

    Attributes:
        operating_point: Name of the threshold in its calibration.
        threshold: The lowest score of one speaker.
        mean: What is subtracted from every embedding first, `(D,)`, if anything.
    """

    operating_point: str
    threshold: float
    mean: tuple[float, ...] | None


def read_decision(path: Path, model: str, operating_point: str) -> Decision:
    """The decision of a calibration without AS-norm, which takes a cohort.

    Args:
        path: Its JSON file.
        model: Digest of the model that is to use it.
        operating_point: Which of its thresholds.

    Raises:
        SparsifyError: It cannot be read, is of another model, has no such threshold, or has a
            cohort.
    """
    calibration = read_calibration(path, model)
    scoring, threshold = calibration.scoring, calibration.threshold(operating_point)
    if scoring.cohort is not None:
        raise SparsifyError(
            f"'{path}' is for scores after AS-norm, which the page does not compute: calibrate"
            " without --score-norm"
        )
    if not math.isfinite(threshold):
        raise SparsifyError(f"the threshold '{operating_point}' in '{path}' is {threshold}")
    mean = None if scoring.mean is None else tuple(map(float, scoring.mean))
    return Decision(operating_point, threshold, mean)
