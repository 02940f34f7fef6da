"""DET curves: the table against scikit-learn's, and the figure."""

import csv
import sys

import numpy as np
import pytest
from sklearn.metrics import det_curve

from sparsify.errors import SparsifyError
from sparsify.verification.det import _deviates, check_det, write_det
from sparsify.verification.metrics import operating_points


@pytest.fixture
def trials():
    rng = np.random.default_rng(0)
    labels = rng.random(500) < 0.3
    return np.round(rng.standard_normal(500) + 2 * labels, 2), labels


def test_the_table_is_scikit_learns_curve(trials, tmp_path):
    scores, labels = trials
    write_det(operating_points(scores, labels), tmp_path / "det.csv")
    with (tmp_path / "det.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    false_alarm, miss, thresholds = det_curve(labels, scores)
    ours = {row["threshold"]: (row["miss"], row["false_alarm"]) for row in rows}
    assert len(rows) < len(np.unique(scores))  # the corners only
    theirs = dict(zip(thresholds, zip(miss, false_alarm, strict=True), strict=True))
    shared = ours.keys() & theirs.keys()
    assert len(shared) > 0.5 * len(ours)
    for threshold in shared:
        assert ours[threshold] == pytest.approx(theirs[threshold], abs=1e-12)
    assert (rows[0]["threshold"], rows[0]["miss"], rows[0]["false_alarm"]) == (np.inf, 1, 0)
    assert (rows[-1]["miss"], rows[-1]["false_alarm"]) == (0, 1)


def test_deviates_invert_the_normal_distribution():
    found = _deviates(np.array([0.5, 0.158655254, 0.977249868]))
    np.testing.assert_allclose(found, [0, -1, 2], atol=1e-6)


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_figures(trials, tmp_path, suffix, start):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"det.{suffix}"
    write_det(operating_points(*trials), path)
    assert path.read_bytes().startswith(start)


def test_what_cannot_be_written_is_refused_first(tmp_path, monkeypatch):
    with pytest.raises(SparsifyError, match=r"must end in \.csv or, as a picture, in \.png"):
        check_det(tmp_path / "det.txt")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    check_det(tmp_path / "det.csv")
    with pytest.raises(SparsifyError, match=r"install matplotlib .*sparsify-speaker\[study\]"):
        check_det(tmp_path / "det.png")
