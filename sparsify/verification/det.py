"""Detection error trade-off: miss rate against false-alarm rate, as a table or a figure."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sparsify.errors import SparsifyError
from sparsify.files import check_writable, replacing
from sparsify.verification.metrics import OperatingPoints

IMAGES = (".png", ".svg", ".pdf")
_TICKS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # rates worth a label
_SMALLEST, _LARGEST = 5e-4, 0.9  # rates that the figure shows


def check_det(path: Path) -> None:
    """Checks that a curve can be written at `path`, before work is spent on it.

    Raises:
        SparsifyError: The name has no known ending, the file cannot be written, or matplotlib is
            missing.
    """
    check_writable(path)
    if path.suffix == ".csv":
        return
    if path.suffix not in IMAGES:
        raise SparsifyError(
            f"cannot write '{path}': the name of a DET curve must end in .csv or, as a picture, in"
            f" {' or '.join(IMAGES)}"
        )
    try:
        import matplotlib  # noqa: F401, PLC0415 - an optional dependency
    except ImportError as error:
        raise SparsifyError(
            f"cannot draw '{path}': install matplotlib (pip install 'sparsify-speaker[study]') or"
            " write a .csv"
        ) from error


def write_det(points: OperatingPoints, path: Path) -> None:
    """Writes the corners of a DET curve: `.csv`, or a figure with normal-deviate axes.

    A row of the table is `threshold,miss,false_alarm`: accepting scores from the threshold on gives
    these rates. The first row, which accepts nothing, has the threshold `inf`. On normal-deviate
    axes Gaussian scores give straight lines (Martin et al. 1997).

    Raises:
        SparsifyError: The file cannot be written or drawn; see `check_det`.
    """
    check_det(path)
    corners = points.corners()
    with replacing(path) as temporary:
        if path.suffix == ".csv":
            _write_csv(corners, temporary)
        else:
            _draw(corners, points.eer, temporary)


def _write_csv(points: OperatingPoints, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("threshold", "miss", "false_alarm"))
        columns = (points.lowest_accepted, points.miss, points.false_alarm)
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))


def _draw(points: OperatingPoints, eer: float, path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(_deviates(points.false_alarm), _deviates(points.miss))
    middle = _deviates(np.array([eer / 100]))
    axes.plot(middle, middle, "o", color="black", label=f"EER {eer:.2f}%")
    limits = _deviates(np.array([_SMALLEST, _LARGEST])).tolist()
    ticks, labels = _deviates(np.array(_TICKS)).tolist(), [f"{100 * t:g}" for t in _TICKS]
    axes.set(xlabel="false-alarm rate (%)", ylabel="miss rate (%)", aspect="equal")
    axes.set(xlim=limits, ylim=limits, xticks=ticks, yticks=ticks)
    axes.set(xticklabels=labels, yticklabels=labels)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def _deviates(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normal deviates of rates, those beyond the figure's ends at a finite place."""
    normal = NormalDist()
    clipped = np.clip(rates, 1e-9, 1 - 1e-9)
    return np.array([normal.inv_cdf(rate) for rate in clipped.tolist()])
