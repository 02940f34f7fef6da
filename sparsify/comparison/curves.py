"""What the results keep of a run's metrics over training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sparsify.comparison.schema import LARGEST
from sparsify.training.run_directory import RunDirectory

Curves = Mapping[str, Sequence[float | None]]

_POINTS = 100  # per curve, about as many as a panel of the report can show
_COLUMNS = (
    "step",
    "sparsity",
    "macs",
    "sparsity_target",
    "lambda",
    "eer_percent",
    "corrupted_eer_percent",
    "loss",
    "weight_norm",
    "gradient_norm",
)


def read_curves(run: RunDirectory) -> dict[str, list[float | None]]:
    """The columns of a run's metrics, thinned; `None` where a record lacks a figure."""
    records = [record for record in run.metrics() if type(record.get("step")) is int]
    stride = math.ceil(len(records) / _POINTS) or 1
    kept = [
        record
        for number, record in enumerate(records, start=1)
        if number % stride == 0 or number == len(records) or "eer_percent" in record
    ]
    columns = {name: [_finite(record.get(name)) for record in kept] for name in _COLUMNS}
    return {name: values for name, values in columns.items() if any(v is not None for v in values)}


def _finite(value: Any) -> float | None:
    if type(value) not in (int, float) or not abs(value) <= LARGEST:  # NaN is not, either
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")
