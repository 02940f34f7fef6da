"""Calibrations: written, read, and refused when they are not of the model."""

import hashlib
import json
import os

import numpy as np
import pytest
import safetensors.numpy

from sparsify.errors import SparsifyError
from sparsify.verification.calibration import (
    Calibration,
    check_calibration,
    read_calibration,
    write_calibration,
)
from sparsify.verification.scoring import Scoring

THRESHOLDS = {"eer": 0.3125, "min-dcf-0.01": 0.1 + 0.2}


@pytest.mark.parametrize("parts", [(), ("mean",), ("cohort",), ("mean", "cohort")])
def test_writing_and_reading_again(tmp_path, parts):
    rng = np.random.default_rng(0)
    arrays = {"mean": rng.standard_normal(4), "cohort": rng.standard_normal((5, 4))}
    chosen = {name: arrays[name] for name in parts}
    path = tmp_path / "calibration.json"
    write_calibration(Calibration(THRESHOLDS, Scoring(**chosen, top_n=3), "digest"), path)
    assert len(list(tmp_path.iterdir())) == (2 if parts else 1)
    found = read_calibration(path, "digest")
    assert found.thresholds == THRESHOLDS
    assert found.scoring.top_n == 3
    for name in arrays:
        np.testing.assert_array_equal(getattr(found.scoring, name), chosen.get(name))


def test_a_model_beside_it_is_not_overwritten(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    calibration = Calibration(THRESHOLDS, Scoring(np.ones(3)), "digest")
    write_calibration(calibration, tmp_path / "model.json")
    assert (tmp_path / "model.safetensors").read_bytes() == b"weights"


def test_what_does_not_belong_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    with pytest.raises(SparsifyError, match=r"no calibration .*--calibrate"):
        read_calibration(path, "digest")
    calibration = Calibration(THRESHOLDS, Scoring(np.ones(3)), "digest")
    write_calibration(calibration, path)
    with pytest.raises(SparsifyError, match="made with another model"):
        read_calibration(path, "other")
    arrays = tmp_path / "calibration.arrays.safetensors"
    content = arrays.read_bytes()
    arrays.write_bytes(content[:-1] + b"x")
    with pytest.raises(SparsifyError, match="is not the one"):
        read_calibration(path, "digest")
    os.truncate(arrays, 1 << 40)
    with pytest.raises(SparsifyError, match="is larger than 256 MiB"):
        read_calibration(path, "digest")
    arrays.unlink()
    with pytest.raises(SparsifyError, match="which is missing"):
        read_calibration(path, "digest")
    for text in ("{", "[]", "{}", json.dumps({"format_version": 1})):
        path.write_text(text)
        with pytest.raises(SparsifyError, match="is not a calibration"):
            read_calibration(path, "digest")
    with pytest.raises(SparsifyError, match=r"must end in \.json"):
        check_calibration(tmp_path / "calibration.txt")


@pytest.mark.parametrize(
    "change",
    [
        {"thresholds": {"eer": "0.5"}},
        {"thresholds": {"eer": None}},
        {"thresholds": [0.5]},
        {"top_n": 3.5},
        {"top_n": True},
        {"arrays": 5},
        {"score_norm": 1},
        {"model": ["digest"]},
        {"format_version": "1"},
    ],
)
def test_values_of_another_type_are_refused(tmp_path, change):
    path = tmp_path / "calibration.json"
    write_calibration(Calibration(THRESHOLDS, Scoring(), "digest"), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SparsifyError, match=f"is not a calibration, it: {next(iter(change))}"):
        read_calibration(path, "digest")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("mean", np.ones((2, 3))),
        ("cohort", np.ones(3)),
        ("mean", np.array([1, 2])),
        ("cohort", np.full((3, 2), np.nan)),
    ],
)
def test_arrays_that_are_none_are_refused(tmp_path, name, array):
    path = tmp_path / "calibration.json"
    write_calibration(Calibration(THRESHOLDS, Scoring(np.ones(2), np.ones((3, 2))), "digest"), path)
    content = safetensors.numpy.save({"mean": np.ones(2), "cohort": np.ones((3, 2)), name: array})
    (tmp_path / "calibration.arrays.safetensors").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"arrays": digest}))
    with pytest.raises(SparsifyError, match=f"damaged: {name} is"):
        read_calibration(path, "digest")


@pytest.mark.parametrize("claim", [{"subtract_mean": True}, {"score_norm": "as-norm"}])
def test_a_scoring_without_its_arrays_is_refused(tmp_path, claim):
    path = tmp_path / "calibration.json"
    write_calibration(Calibration(THRESHOLDS, Scoring(), "digest"), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | claim))
    with pytest.raises(SparsifyError, match="another scoring than it has arrays for"):
        read_calibration(path, "digest")


def test_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    write_calibration(Calibration(THRESHOLDS, Scoring(), "digest"), path)
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(SparsifyError, match="format version 2: update"):
        read_calibration(path, "digest")


def test_an_unknown_operating_point_is_refused_with_a_hint():
    calibration = Calibration(THRESHOLDS, Scoring(), "digest")
    assert calibration.threshold("eer") == 0.3125
    with pytest.raises(SparsifyError, match=r"no threshold 'min-dcf-0\.1'.*'min-dcf-0\.01'\?"):
        calibration.threshold("min-dcf-0.1")
