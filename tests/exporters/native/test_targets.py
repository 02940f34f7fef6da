"""Exports for other machines: compiled here, run in an emulator or in node, and proven equal."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

from sparsify.artifact.loading import load_artifact, load_model
from sparsify.audio.features import Filterbank
from sparsify.errors import SparsifyError
from sparsify.exporters.export import export_artifact
from sparsify.exporters.native.exporter import NativeExporter
from sparsify.exporters.native.targets import MODULE, TARGETS
from sparsify.exporters.networks import torch_network
from sparsify.exporters.parity import check_parity

from .conftest import need_target


@pytest.mark.parametrize("target", ["arm64", "wasm"])
def test_it_computes_what_the_model_does(exported_for, artifacts, target):
    artifact = load_artifact(exported_for(target))
    assert NativeExporter().obstacle(artifact) is None
    network = NativeExporter().network(artifact)
    assert check_parity(torch_network(load_model(artifacts["dense"])), network).passed
    with pytest.raises(SparsifyError, match="80 features a frame, not 40"):
        network(np.zeros((1, 50, 40), np.float32))


@pytest.mark.parametrize("target", ["arm64", "wasm"])
def test_code_that_others_compiled_is_run_only_with_trust(exported_for, tmp_path, target):
    copy = shutil.copytree(exported_for(target), tmp_path / "copy")
    path = copy / TARGETS[target].library
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(SparsifyError, match="give --trust"):
        NativeExporter().network(load_artifact(copy))
    path.write_bytes(b"\0asm or what")
    network = NativeExporter().network(load_artifact(copy, trust=True))
    with pytest.raises(SparsifyError, match="has ended"):
        network(np.zeros((1, 50, 80), np.float32))


def test_the_module_imports_nothing(exported_for):
    """WebAssembly's binary format: section 2 holds imports."""
    code = (exported_for("wasm") / MODULE).read_bytes()
    at, sections = 8, []
    while at < len(code):
        sections.append(code[at])
        size, shift, at = 0, 0, at + 1
        while True:
            byte = code[at]
            size, shift, at = size | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                break
        at += size
    assert at == len(code)
    assert 2 not in sections


def test_weights_that_are_served_are_checked(exported_for, tmp_path):
    copy = shutil.copytree(exported_for("wasm"), tmp_path / "copy")
    path = copy / "web" / "weights.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(SparsifyError, match=r"web/weights\.bin' is damaged"):
        load_artifact(copy)


def test_without_a_compiler_for_it_the_code_is_still_written(
    artifacts, tmp_path, monkeypatch, caplog
):
    """`cc` is there, but makes code for this machine."""
    need_target("arm64")
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("cc", "as", "ld"):
        (folder / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("CC", "cc")
    output = tmp_path / "model"
    NativeExporter("arm64").write(load_artifact(artifacts["dense"]), output, "dense")
    assert "arm64 needs Debian's gcc-aarch64-linux-gnu" in caplog.text
    assert (output / "model.c").is_file()
    assert NativeExporter().obstacle(load_artifact(output)) == "it is not compiled"
    with pytest.raises(SparsifyError, match="is not there"):
        NativeExporter().network(load_artifact(output))


def test_a_target_is_for_what_is_compiled(artifacts, tmp_path):
    artifact = load_artifact(artifacts["dense"])
    with pytest.raises(SparsifyError, match="onnx is not compiled for wasm: leave out --target"):
        export_artifact(artifact, tmp_path / "model.onnx", "onnx", target="wasm")


def test_a_folder_for_an_unknown_machine_is_one_sentence(exported_for, tmp_path):
    copy = shutil.copytree(exported_for("wasm"), tmp_path / "copy")
    marker = json.loads((copy / "native.json").read_text())
    for name in ("risc", 5, None):
        (copy / "native.json").write_text(json.dumps(marker | {"target": name}))
        with pytest.raises(SparsifyError):
            NativeExporter().network(load_artifact(copy))


def test_the_loader_in_javascript_takes_audio_and_features(exported_for, tmp_path):
    """As a program in node would use it."""
    folder = exported_for("wasm")
    program = tmp_path / "program.mjs"
    samples = np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32)
    (tmp_path / "samples.json").write_text(json.dumps(samples.tolist()))
    program.write_text(
        "import {readFileSync} from 'node:fs';\n"
        f"import {{load, cosine}} from {json.dumps((folder / 'web' / 'model.js').as_uri())};\n"
        """
        const model = await load();
        const samples = Float32Array.from(JSON.parse(readFileSync(process.argv[2])));
        const embedding = model.embedAudio(samples);
        const errors = [];
        for (const wrong of [() => model.embedAudio(samples.subarray(0, 100)),
                             () => model.embed(new Float32Array(81)),
                             () => model.embed(new Float32Array(0))]) {
          try { wrong(); } catch (error) { errors.push(error.message); }
        }
        console.log(JSON.stringify({
          dims: [model.featureDim, model.embeddingDim, model.sampleRate],
          embedding: [...embedding], errors, same: cosine(embedding, model.embedAudio(samples)),
        }));
        """
    )
    command = ["node", program, tmp_path / "samples.json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    artifact = load_artifact(folder)
    assert found["dims"] == [80, len(found["embedding"]), 16000]
    assert found["same"] == pytest.approx(1)
    assert [each.partition(" ")[0] for each in found["errors"]] == ["the", "features", "the"]
    expected = _embedded(artifact, samples)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-4 * scale)


def _embedded(artifact, samples):
    with torch.inference_mode():
        feats = Filterbank(artifact.front_end)(torch.from_numpy(samples)[None])
        return artifact.build()(feats)[0].numpy()
