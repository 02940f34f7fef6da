"""The same training gives the same files, byte by byte, wherever its speech and its run lie."""

import importlib.util

import onnx
import pytest

from sparsify.artifact.loading import load_artifact
from sparsify.corpus.synthetic import write_synthetic
from sparsify.exporters.export import export_artifact
from sparsify.exporters.native import exporter
from sparsify.exporters.native.tracing import trace
from sparsify.exporters.onnx import writing
from sparsify.recipe.recipe import load_recipe
from sparsify.training.trainer import train

TINY = [
    "model.name=resnet18",
    "model.options={channels: 4, embedding_dim: 16}",
    "data.validation_speakers=2",
    "data.crop_seconds=0.4",
    "training.steps=4",
    "training.batch_size=8",
    "training.validate_every=4",
    "training.batch_norm_batches=1",
    "training.workers=0",
    "augment.noise_snr_db={noise: [0, 15]}",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two places with the same speech, noise and first model, and what was trained on them."""
    made = []
    for name in ("here", "elsewhere/of another length"):
        folder = tmp_path_factory.mktemp("places") / name
        write_synthetic(folder / "speech", 6, 3, seed=1)
        write_synthetic(folder / "noise", 1, 2, seed=2)
        paths = {"data.path": folder / "speech", "augment.noise": folder / "noise"}
        paths = {key: str(path) for key, path in paths.items()}
        first = load_recipe("quickstart", [*TINY, "method=dense"], paths)
        train(first, folder / "first", device="cpu")
        then = load_recipe(
            "quickstart",
            TINY,
            paths | {"model.init_from": str(folder / "first" / "model.safetensors")},
        )
        train(then, folder / "run", device="cpu")
        made.append(folder)
    return made


def same(one, other):
    content = one.read_bytes()
    assert content == other.read_bytes()
    for word in (b"elsewhere", b"places", b"speech/"):
        assert word not in content
    return content


def test_trained_models_are_the_same(folders):
    for run in ("first", "run"):
        same(*(folder / run / "model.safetensors" for folder in folders))
    artifact = load_artifact(folders[0] / "run")
    assert artifact.recipe.data.path == artifact.recipe.model.init_from == "(left out)"


@pytest.fixture(scope="module")
def graphs(folders):
    return [exported(folder, "onnx", "model.onnx") for folder in folders]


def exported(folder, format_name, name, **options):
    output = folder / name
    export_artifact(load_artifact(folder / "run"), output, format_name, **options)
    return output


def test_onnx_exports_are_the_same(graphs):
    same(*graphs)


@pytest.mark.parametrize(("layout", "precision"), [("bitmask", "fp32"), ("coded", "int8")])
def test_safetensors_exports_are_the_same(folders, layout, precision):
    options = {"layout": layout, "precision": precision}
    same(*(exported(each, "safetensors", f"{layout}.safetensors", **options) for each in folders))


@pytest.mark.skipif(importlib.util.find_spec("MNN") is None, reason="MNN is not installed")
def test_mnn_exports_are_the_same(folders, graphs, monkeypatch):
    graph = onnx.load(graphs[0])
    del graph.metadata_props[:]
    monkeypatch.setattr(writing, "_graph", lambda *_: graph)
    one, other = (exported(folder, "mnn", "model.mnn") for folder in folders)
    same(one, other)
    same(*(path.with_name("model.mnn.json") for path in (one, other)))


def test_native_exports_are_the_same(folders, monkeypatch):
    """As C code; what a compiler makes of it is its own affair."""
    monkeypatch.setenv("CC", "no-compiler")
    artifact = load_artifact(folders[0] / "run")
    known = trace(artifact.build(), artifact.front_end.num_mel_bins, "")
    monkeypatch.setattr(exporter, "trace", lambda *_: known)  # it takes seconds
    one, other = (exported(folder, "native", "model-c") for folder in folders)
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert {"native.json", "model.safetensors", "weights.bin"} <= {*names}
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()
