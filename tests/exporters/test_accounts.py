"""What is told of a model is told again without PyTorch, and only of the very same model."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from sparsify import SparsifyError, build_model, save_model
from sparsify.artifact.loading import load_artifact
from sparsify.cli.main import main
from sparsify.exporters import accounts, counting
from sparsify.exporters.accounts import account_key, kept_account
from sparsify.exporters.counting import account_of, counted_account
from sparsify.exporters.export import export_artifact

KINDS = ("dense", "bitmask", "coded", "run", "onnx")
AGAIN = """
import json, sys
from click.testing import CliRunner
from sparsify.cli.main import main
told = [CliRunner().invoke(main, ["inspect", *words]).stdout for words in json.loads(sys.argv[1])]
print(json.dumps([told, [*sys.modules]]))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sparsify" / "accounts"


def test_a_model_is_told_again_without_torch(artifacts):
    files = [str(artifacts[kind]) for kind in KINDS]
    asked = [[file, *how] for file in files for how in ([], ["--json", "--max-macs", "1"])]
    first = [CliRunner().invoke(main, ["inspect", *words]).stdout for words in asked]
    assert all(first)
    script = [sys.executable, "-c", AGAIN, json.dumps(asked)]
    again = subprocess.run(script, capture_output=True, text=True, check=True)
    told, modules = json.loads(again.stdout)
    assert told == first
    assert {"torch", "onnx", "onnxruntime", "numpy"} & {*modules} == set()


def test_the_first_look_takes_no_compiler(artifacts):
    asked = [["--json", str(artifacts["dense"])]]
    script = [sys.executable, "-c", AGAIN, json.dumps(asked)]
    first = subprocess.run(script, capture_output=True, text=True, check=True)
    (told,), modules = json.loads(first.stdout)
    assert json.loads(told)["multiply_adds"] > 0
    assert "torch" in modules
    assert {"torch._dynamo", "sympy"} & {*modules} == set()


def test_an_account_is_what_was_counted(artifacts, tmp_path):
    for kind in KINDS:
        _, counted = counted_account(artifacts[kind])
        assert kept_account(artifacts[kind]) == counted
    copy = shutil.copy(artifacts["dense"], tmp_path / "copy.safetensors")
    assert kept_account(copy).path == copy


@pytest.mark.parametrize(
    ("format_", "name", "layout"),
    [("safetensors", "m.safetensors", "coded"), ("onnx", "m.onnx", "dense")],
)
def test_an_export_is_told_at_once(artifacts, known_graph, tmp_path, format_, name, layout):
    export_artifact(load_artifact(artifacts["dense"]), tmp_path / name, format_, layout)
    kept = kept_account(tmp_path / name)
    assert kept is not None
    assert kept == account_of(load_artifact(tmp_path / name))


def test_of_what_may_be_told_otherwise_no_account_is_kept(artifacts, tmp_path, cache):
    torch.save({"w": torch.ones(9, 9)}, tmp_path / "others.pt")
    save_model(
        build_model("torch.nn:Linear", in_features=9, out_features=9), tmp_path / "code.safetensors"
    )
    tensors = safetensors.torch.load_file(artifacts["dense"])
    with safetensors.safe_open(artifacts["dense"], "pt") as file:
        metadata = file.metadata()
    changed = tmp_path / "changed.safetensors"
    safetensors.torch.save_file({**tensors, "more": torch.ones(9, 9)}, changed, metadata)
    for file in (tmp_path / "others.pt", tmp_path / "code.safetensors", changed):
        counted_account(file)
        assert kept_account(file) is None
    assert not cache.exists() or not [*cache.iterdir()]


def test_the_key_is_of_all_that_counts(artifacts, tmp_path, monkeypatch):
    model, beside = tmp_path / "m.mnn", tmp_path / "m.mnn.json"
    model.write_bytes(b"graph")
    keys = {account_key(model)}
    beside.write_bytes(b"{}")
    keys.add(account_key(model))
    beside.write_bytes(b"{} ")
    keys.add(account_key(model))
    model.write_bytes(b"Graph")
    keys.add(account_key(model))
    monkeypatch.setattr(accounts, "code_digest", lambda *_: "of other code")
    keys.add(account_key(model))
    assert len(keys) == 5
    assert account_key(artifacts["run"]) == account_key(artifacts["run"] / "model.safetensors")
    assert account_key(tmp_path / "missing.onnx") is None
    for spoil in (
        lambda: os.truncate(beside, 1 << 40),
        lambda: os.mkfifo(beside),
        lambda: beside.symlink_to("/dev/zero"),
    ):
        spoil()
        assert account_key(model) is None
        beside.unlink()
    with pytest.raises(SparsifyError, match="not a run directory"):
        account_key(tmp_path)


def test_a_model_that_changes_while_it_is_counted_is_not_kept(artifacts, tmp_path, monkeypatch):
    file = shutil.copy(artifacts["dense"], tmp_path / "m.safetensors")
    load = counting.load_artifact

    def load_and_replace(path, *, trust):
        artifact = load(path, trust=trust)
        shutil.copy(artifacts["coded"], tmp_path / "new").replace(path)
        return artifact

    monkeypatch.setattr(counting, "load_artifact", load_and_replace)
    counted_account(file)
    assert kept_account(file) is None
