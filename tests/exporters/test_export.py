import json
import math
import shutil
import zlib

import onnxruntime
import pytest
import safetensors.torch
import torch

from sparsify.artifact.artifact import weights_table
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.saving import save_model
from sparsify.errors import SparsifyError
from sparsify.exporters.export import ParityError, export_artifact
from sparsify.exporters.safetensors import SafetensorsExporter


@pytest.fixture
def artifact(artifacts):
    return load_artifact(artifacts["run"])


@pytest.mark.parametrize("layout", ["dense", "bitmask", "coded"])
@pytest.mark.parametrize("source", ["dense", "bitmask", "coded", "onnx"])
def test_safetensors_from_any_format(artifacts, tmp_path, source, layout):
    output = tmp_path / "out.safetensors"
    report = export_artifact(load_artifact(artifacts[source]), output, "safetensors", layout)
    assert (report.path, report.format, report.layout) == (output, "safetensors", layout)
    assert report.parity.passed
    assert report.parity.max_abs_error == 0
    # Batch norm's counters are zero here, so every format gives the very same file.
    assert output.read_bytes() == artifacts[layout].read_bytes()
    assert report.bytes == output.stat().st_size
    assert report.zipped_bytes == len(zlib.compress(output.read_bytes()))
    weights = sum(t.nbytes for t in safetensors.torch.load_file(artifacts["dense"]).values())
    assert weights < report.dense_bytes < weights + 40_000  # and a header
    assert report.dense_zipped_bytes > 2 * report.zipped_bytes
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_rounded_weights_are_compared_with_the_rounded_network(artifact, tmp_path, precision):
    output = tmp_path / "out.safetensors"
    report = export_artifact(artifact, output, "safetensors", "coded", precision=precision)
    assert (report.layout, report.precision) == ("coded", precision)
    assert report.parity.passed
    assert report.parity.max_abs_error == 0
    assert report.rounding.max_abs_error > 0
    written = load_artifact(output)
    assert written.precision == precision
    assert written.metadata["rounded_from"] == artifact.metadata["source_digest"]
    assert written.metadata["source_digest"] != artifact.metadata["source_digest"]
    again = tmp_path / "again.safetensors"
    report = export_artifact(written, again, "safetensors", "coded", precision=precision)
    assert report.rounding is None
    assert again.read_bytes() == output.read_bytes()
    export_artifact(written, tmp_path / "dense.safetensors", "safetensors")
    dense = load_artifact(tmp_path / "dense.safetensors")
    assert all(torch.equal(dense.state[name], t) for name, t in written.state.items())


def test_a_given_tolerance_holds_for_rounding(artifact, tmp_path):
    output = tmp_path / "out.safetensors"
    with pytest.raises(ParityError, match=r"int4 weights move .* far .*--tolerance") as caught:
        export_artifact(artifact, output, "safetensors", "coded", precision="int4", tolerance=1e-3)
    assert caught.value.report.parity.passed
    assert not caught.value.report.rounding.passed
    assert list(tmp_path.iterdir()) == []
    report = export_artifact(
        artifact, output, "safetensors", "coded", precision="int8", tolerance=0.5
    )
    assert report.rounding.passed


def test_rounding_that_saves_nothing_is_refused(artifact, tmp_path):
    with pytest.raises(SparsifyError, match="add --layout coded"):
        export_artifact(artifact, tmp_path / "m.safetensors", "safetensors", precision="int8")


@pytest.mark.usefixtures("known_graph")
def test_onnx_from_safetensors(artifact, tmp_path):
    output = tmp_path / "out.onnx"
    report = export_artifact(artifact, output, "onnx")
    assert report.parity.passed
    assert 0 < report.parity.max_abs_error < 1e-4
    assert report.sparsity == float(artifact.metadata["sparsity"])
    assert report.bytes == output.stat().st_size
    assert abs(report.dense_bytes - report.bytes) < 100
    assert report.dense_zipped_bytes > 2 * report.zipped_bytes
    assert onnxruntime.InferenceSession(output).get_inputs()[0].name == "feats"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("existing", [None, "old"])
def test_a_file_that_differs_is_not_left_behind(artifact, tmp_path, monkeypatch, existing):
    write = SafetensorsExporter.write

    def perturbing(self, artifact, output, layout):
        state = {name: tensor.clone() for name, tensor in artifact.state.items()}
        state["linear.bias"][0] += 0.1
        write(self, artifact.with_state(state), output, layout)

    output = tmp_path / "out.safetensors"
    if existing:
        output.write_text(existing)
    monkeypatch.setattr(SafetensorsExporter, "write", perturbing)
    with pytest.raises(ParityError, match=r"largest error 0\.1.*--tolerance") as caught:
        export_artifact(artifact, output, "safetensors", force=True)
    assert not caught.value.report.parity.passed
    assert caught.value.report.parity.max_abs_error == pytest.approx(0.1, rel=1e-3)
    assert [path.read_text() for path in tmp_path.iterdir()] == ([existing] if existing else [])
    report = export_artifact(artifact, output, "safetensors", force=True, tolerance=0.5)
    assert report.parity.passed


@pytest.mark.parametrize("how", [{"precision": "int8"}, {"shrink": True}])
def test_a_model_is_not_replaced_by_what_has_lost_something(artifacts, tmp_path, how):
    model = shutil.copy(artifacts["dense"], tmp_path / "m.safetensors")
    before = model.read_bytes()
    with pytest.raises(SparsifyError, match="it is what is read"):
        export_artifact(load_artifact(model), model, "safetensors", "coded", force=True, **how)
    assert model.read_bytes() == before


def test_networks_without_an_architecture_are_refused(artifacts, tmp_path):
    with pytest.raises(SparsifyError, match="which network"):
        export_artifact(load_artifact(artifacts["pt"]), tmp_path / "out.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_model_that_computes_nothing_is_named(artifact, tmp_path, value):
    weight = artifact.state["layer1.conv.weight"].clone()
    weight[0, 0, :2] = value
    broken = artifact.with_state(artifact.state | {"layer1.conv.weight": weight})
    with pytest.raises(SparsifyError, match=r"has 2 values .* the first in 'layer1\.conv\.weight'"):
        export_artifact(broken, tmp_path / "m.safetensors", "safetensors")
    assert list(tmp_path.iterdir()) == []


def test_impossible_exports_fail_before_any_work(artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(type(artifact), "build", lambda self: pytest.fail("work was done"))
    (tmp_path / "old.onnx").write_text("old")
    for name, layout, message in (
        ("new.onnx", "bitmask", "no bitmask layout"),
        ("new.safetensors", "dense", r"must end in \.onnx"),
        ("old.onnx", "dense", "--force"),
        ("missing/new.onnx", "dense", "create the folder"),
        ("\udcff.onnx", "dense", "give a name in UTF-8"),
    ):
        with pytest.raises(SparsifyError, match=message):
            export_artifact(artifact, tmp_path / name, "onnx", layout)


def test_an_artifact_may_replace_itself(artifacts, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(artifacts["dense"].read_bytes())
    before = load_artifact(path)
    expected = {name: tensor.clone() for name, tensor in before.state.items()}
    export_artifact(before, path, "safetensors", "bitmask", force=True)
    after = load_artifact(path)
    assert after.layout == "bitmask"
    assert all(torch.equal(after.state[name], tensor) for name, tensor in expected.items())


@pytest.mark.usefixtures("known_graph")
def test_the_mean_embedding_survives_every_format_exactly(sparse_model, tmp_path):
    mean = torch.randn(24) * 10 ** torch.linspace(-8, 8, 24)
    save_model(sparse_model, tmp_path / "model.safetensors", embedding_mean=mean)
    artifact = load_artifact(tmp_path / "model.safetensors")
    export_artifact(artifact, tmp_path / "out.onnx", "onnx")
    export_artifact(
        load_artifact(tmp_path / "out.onnx"), tmp_path / "out.safetensors", "safetensors"
    )
    for name in ("model.safetensors", "out.onnx", "out.safetensors"):
        text = load_artifact(tmp_path / name).metadata["embedding_mean"]
        assert torch.equal(torch.tensor(json.loads(text)), mean)


@pytest.mark.usefixtures("known_graph")
@pytest.mark.parametrize("format_name", ["safetensors", "onnx"])
def test_masks_beside_an_export(artifact, tmp_path, format_name):
    output = tmp_path / f"out.{format_name}"
    masks = tmp_path / "out.masks.safetensors"
    export_artifact(artifact, output, format_name, masks=True)
    found = safetensors.torch.load_file(masks)
    assert found.keys() == {layer.name for layer in weights_table(artifact).prunable}
    assert all(torch.equal(mask, artifact.state[name] != 0) for name, mask in found.items())
    with safetensors.safe_open(masks, "pt") as file:
        digest = file.metadata()["source_digest"]
    assert digest == artifact.metadata["source_digest"]
    output.unlink()
    with pytest.raises(SparsifyError, match=r"out\.masks\.safetensors' exists"):
        export_artifact(artifact, output, format_name, masks=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [masks.name]
