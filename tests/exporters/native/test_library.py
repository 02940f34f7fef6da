"""A network as a folder of C code: proven equal, compiled anywhere, loaded only where trusted."""

import ctypes
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sparsify.artifact.formats import HALF
from sparsify.artifact.loading import load_artifact, load_model
from sparsify.artifact.rounding import rounded
from sparsify.audio.features import Filterbank
from sparsify.compiled_code import is_remembered
from sparsify.errors import SparsifyError
from sparsify.exporters.export import export_artifact
from sparsify.exporters.native import library
from sparsify.exporters.native.exporter import NativeExporter
from sparsify.exporters.native.targets import LIBRARY
from sparsify.exporters.networks import torch_network
from sparsify.exporters.parity import check_parity

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")


@pytest.fixture(scope="module")
def exported(artifacts, once):
    """The folder of `sparse_model`."""

    def make(folder):
        NativeExporter().write(load_artifact(artifacts["dense"]), folder / "model", "dense")

    return once("native", make) / "model"


@pytest.fixture
def copy(exported, tmp_path):
    """Another such folder, to be spoilt."""
    return shutil.copytree(exported, tmp_path / "copy")


def _feats(frames, bins=80, batch=1):
    return np.random.default_rng(frames).normal(size=(batch, frames, bins)).astype(np.float32)


def test_it_computes_what_the_model_does_with_any_number_of_threads(exported, artifacts):
    artifact = load_artifact(exported)
    reference = torch_network(load_model(artifacts["dense"]))
    for threads in (None, 2, 3):
        assert check_parity(reference, NativeExporter().network(artifact, threads)).passed


def test_what_it_is_made_of_lies_beside_it(exported, artifacts):
    read, source = load_artifact(exported), load_artifact(artifacts["dense"])
    assert read.metadata["source_digest"] == source.metadata["source_digest"]
    assert all(torch.equal(read.state[name], tensor) for name, tensor in source.state.items())


def test_half_precision_is_that_of_the_rounded_model(artifacts, tmp_path):
    artifact = rounded(load_artifact(artifacts["dense"]), HALF)
    NativeExporter().write(artifact, tmp_path / "half", "dense")
    read = load_artifact(tmp_path / "half")
    assert read.precision == HALF
    network = NativeExporter().network(read)
    assert check_parity(torch_network(artifact.build()), network, tolerance=1e-5).passed
    # The 16-bit pattern of each value is what PyTorch rounds to.
    weight = load_artifact(artifacts["dense"]).state["linear.weight"]
    assert torch.equal(artifact.state["linear.weight"], weight.half().float())


def test_a_weight_too_large_for_half_precision_is_named(artifacts):
    artifact = load_artifact(artifacts["dense"])
    artifact.state["linear.weight"][0, 0] = 1e6
    with pytest.raises(SparsifyError, match=r"'linear.weight' has values up to 1e\+06"):
        rounded(artifact, HALF)


def test_code_that_others_compiled_is_loaded_only_with_trust(copy):
    path = copy / LIBRARY
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(SparsifyError, match="give --trust"):
        NativeExporter().network(load_artifact(copy))
    embeddings = NativeExporter().network(load_artifact(copy, trust=True))(_feats(50))
    assert np.isfinite(embeddings).all()
    assert not is_remembered(path.read_bytes())


def test_the_library_of_another_model_is_noticed(copy):
    marker = json.loads((copy / library.MARKER).read_text())
    (copy / library.MARKER).write_text(json.dumps(marker | {"library_digest": "0"}))
    with pytest.raises(SparsifyError, match="of another export"):
        NativeExporter().network(load_artifact(copy))


@pytest.mark.parametrize("content", [b"", b"\x7fELF and no more", None])
def test_a_library_that_is_none_is_one_sentence(copy, content):
    path = copy / LIBRARY
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SparsifyError, match="run make" if content is None else "cannot be loaded"):
        NativeExporter().network(load_artifact(copy, trust=True))


def test_a_library_that_was_cut_is_not_loaded(copy):
    """The loader of the system would end this process."""
    code = (copy / LIBRARY).read_bytes()
    (copy / LIBRARY).unlink()
    for size in (len(code) // 2, len(code) - 1):
        (copy / LIBRARY).write_bytes(code[:size])
        with pytest.raises(SparsifyError, match="its end is missing"):
            NativeExporter().network(load_artifact(copy, trust=True))


def test_weights_of_another_model_are_noticed(copy):
    marker = json.loads((copy / library.MARKER).read_text())
    (copy / library.MARKER).write_text(json.dumps(marker | {"source_digest": "0"}))
    with pytest.raises(SparsifyError, match="of different models"):
        load_artifact(copy)
    for content in ("[]", "{", '{"source_digest": []}'):
        (copy / library.MARKER).write_text(content)
        with pytest.raises(SparsifyError):
            load_artifact(copy)


def test_a_blob_that_was_changed_is_noticed(copy):
    """The engine would follow its offsets anywhere."""
    content = bytearray((copy / library.BLOB).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / library.BLOB).write_bytes(content)
    with pytest.raises(SparsifyError, match=r"weights\.bin' is damaged"):
        load_artifact(copy, trust=True)


def test_it_says_what_it_does_not_embed(exported):
    network = NativeExporter().network(load_artifact(exported))
    with pytest.raises(SparsifyError, match="80 features a frame, not 40"):
        network(_feats(50, bins=40))


def test_only_what_an_export_made_is_replaced(artifacts, tmp_path, monkeypatch):
    artifact = load_artifact(artifacts["dense"])
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path / "folder")
    for name in ("folder", "file", "pipe"):
        with pytest.raises(SparsifyError, match="no native export has made what is there"):
            export_artifact(artifact, tmp_path / name, "native", force=True)
    for name in (".", ".."):
        with pytest.raises(SparsifyError, match="give what is written a name"):
            export_artifact(artifact, Path(name), "native", force=True)
    assert (tmp_path / "file").read_text() == "precious"


def test_without_a_compiler_the_code_is_still_written(artifacts, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CC", "no-such-compiler")
    NativeExporter().write(load_artifact(artifacts["dense"]), tmp_path / "model", "dense")
    assert (
        "not compiled (run make there): no-such-compiler: there is no such command" in caplog.text
    )
    artifact = load_artifact(tmp_path / "model")
    assert NativeExporter().obstacle(artifact) == "it is not compiled"
    deployed = artifact.format.deployed_file(artifact.path)
    assert (
        deployed == tmp_path / "model" / library.BLOB
    )  # what the library would hold, beside the code


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_its_makefile_makes_the_same_and_an_example_that_embeds(copy, tmp_path):
    (copy / LIBRARY).unlink()
    subprocess.run(["make", "-s", "-C", copy, "CFLAGS=-O1 -ffast-math"], check=True)
    loaded = ctypes.CDLL(str(copy / LIBRARY))
    assert loaded.sparsify_sample_rate() == 16000
    assert loaded.sparsify_frames(16000) == 100
    assert loaded.sparsify_frames(100) == 0
    made = NativeExporter().network(load_artifact(copy, trust=True))(_feats(120))
    samples = np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    output = subprocess.run(
        [copy / "example", tmp_path / "a.wav"], check=True, capture_output=True, text=True
    ).stdout
    assert len(output.split()) == made.shape[1]
    subprocess.run(["make", "-s", "-C", copy, "CFLAGS=-O1", "THREADS=0"], check=True)
    code = (copy / LIBRARY).read_bytes()
    assert b"sparsify_embed_threads" not in code


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_its_makefile_makes_the_example_for_arm64(copy, arm64_tools, tmp_path):
    """One that computes in half precision where the processor does, and weights are stored so."""
    compiler, emulator = arm64_tools
    options = f"CC={compiler}", "CFLAGS=-O1", "LDFLAGS=-static", "HALF=1"
    subprocess.run(["make", "-s", "-C", copy, *options, "example"], check=True)
    samples = np.random.default_rng(0).normal(scale=0.1, size=16000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")

    def output(cpu, *arguments):
        command = [emulator, "-cpu", cpu, copy / "example", *arguments, tmp_path / "a.wav"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    artifact = load_artifact(copy)
    feats = Filterbank(artifact.front_end).features(samples)[None]
    (expected,) = NativeExporter().network(artifact)(feats)
    for cpu, instructions in (("cortex-a72", "neon"), ("max", "neon-fp16")):
        np.testing.assert_allclose(np.float32(output(cpu).split()), expected, atol=1e-4)
        assert output(cpu, "--repeat", "2").startswith(f"{instructions}: ")
