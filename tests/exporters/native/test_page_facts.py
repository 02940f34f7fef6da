"""What an export tells its page: the model, and how to decide."""

import hashlib
import json
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest

from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.errors import SparsifyError
from sparsify.exporters import export
from sparsify.exporters.export import export_artifact
from sparsify.exporters.native.page import write_page
from sparsify.exporters.speaker_model import load_speaker_model
from sparsify.recipe.recipe import Recipe
from sparsify.verification.calibration import Calibration, write_calibration
from sparsify.verification.decision import Decision
from sparsify.verification.scoring import Scoring

THRESHOLDS = {"eer": 0.25, "min-dcf-0.01": 0.5}
MEAN = tuple(np.arange(24.0))


class DecidedError(Exception):
    """Ends an export where its decision is known."""


@pytest.fixture
def decide(artifacts, tmp_path, monkeypatch):
    """What an export lets the page of a copy of `sparse_model` decide by."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(artifacts["dense"].read_bytes())

    def stop(_, target, decision, *others, **more):
        raise DecidedError(decision)

    monkeypatch.setattr(export, "exporter_of", stop)

    def decide(format_name="native", target="wasm", **options):
        output = tmp_path / "exported"
        with pytest.raises(DecidedError) as stopped:
            export_artifact(load_artifact(path), output, format_name, target=target, **options)
        return stopped.value.args[0]

    return decide


@pytest.fixture
def digest(artifacts):
    return load_speaker_model(artifacts["dense"]).digest


def calibrate(path, model, scoring):
    write_calibration(Calibration(THRESHOLDS, scoring, model), path)
    return path


def test_the_model(artifacts, tmp_path, digest):
    artifact = load_artifact(artifacts["dense"])
    blob = np.array([0, 1, 80, 24], np.int32).tobytes()
    (tmp_path / "weights.bin").write_bytes(blob)
    decision = Decision("eer", 0.25, MEAN)
    write_page(tmp_path, artifact, digest, decision)
    told = json.loads((tmp_path / "web" / "model.json").read_text())
    table = weights_table(artifact)
    assert (told["nonzero"], told["parameters"]) == (table.nonzero, table.parameters)
    assert (told["architecture"], told["method"]) == ("ecapa-tdnn", Recipe().method)
    assert (told["sparsity"], told["digest"]) == (table.sparsity, digest)
    assert (told["bytes"], told["embedding_dim"], told["sample_rate"]) == (16, 24, 16000)
    assert told["decision"] == {"operating_point": "eer", "threshold": 0.25, "mean": list(MEAN)}
    kind, _, value = told["integrity"].partition("-")
    assert (kind, b64decode(value)) == ("sha256", hashlib.sha256(blob).digest())
    with pytest.raises(SparsifyError, match="has 3 dimensions and the embeddings 24"):
        write_page(tmp_path, artifact, digest, replace(decision, mean=(1.0, 2.0, 3.0)))


def test_the_calibration_that_is_named_or_lies_beside_the_model(decide, digest, tmp_path):
    assert decide() is None
    named = calibrate(tmp_path / "named.json", digest, Scoring(np.array(MEAN)))
    expected = Decision("min-dcf-0.01", 0.5, MEAN)
    assert decide(calibration=named, operating_point="min-dcf-0.01") == expected
    calibrate(tmp_path / "calibration.json", digest, Scoring())
    assert decide() == Decision("eer", 0.25, None)
    assert decide(target="arm64") is None


def test_of_a_rounded_model_only_its_own_is_taken(decide, digest, tmp_path, caplog):
    beside = calibrate(tmp_path / "calibration.json", digest, Scoring())
    assert decide(precision="fp16") is None
    assert "is of the model as it was before, so the page has no threshold" in caplog.text
    with pytest.raises(SparsifyError, match="made with another model"):
        decide(precision="fp16", calibration=beside)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operating_point": "eer"}, "--at eer needs a calibration"),
        ({"calibration": "other"}, "made with another model"),
        ({"calibration": "cohort"}, "after AS-norm, which the page does not compute"),
        ({"calibration": "own", "operating_point": "err"}, "no threshold 'err'.*did you mean"),
        ({"calibration": "own", "target": "arm64"}, "only the page that --format native --target"),
        ({"calibration": "own", "target": None}, "takes --calibration and --at: leave them out"),
        ({"operating_point": "eer", "format_name": "onnx", "target": None}, "leave them out"),
    ],
)
def test_what_does_not_decide_is_refused(decide, digest, tmp_path, options, message):
    files = {
        "own": calibrate(tmp_path / "own.json", digest, Scoring()),
        "other": calibrate(tmp_path / "other.json", "another", Scoring()),
        "cohort": calibrate(tmp_path / "cohort.json", digest, Scoring(cohort=np.eye(24))),
    }
    if "calibration" in options:
        options = options | {"calibration": files[options["calibration"]]}
    with pytest.raises(SparsifyError, match=message):
        decide(**options)
