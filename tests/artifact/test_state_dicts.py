"""Files by `torch.save`, whatever is in them and around it."""

import argparse
import gzip
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparsify import SparsifyError
from sparsify.artifact.state_dicts import read_pt
from sparsify.tensors import tensors_of

WEIGHTS = {"fc.weight": torch.ones(3, 4), "fc.bias": torch.zeros(3)}
ADAM = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(3, 4)}}, "param_groups": []}


def prefixed(prefix):
    return {prefix + name: tensor for name, tensor in WEIGHTS.items()}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"net": WEIGHTS, "epoch": 3},
        {"model_state": WEIGHTS, "optimizer": ADAM, "config": {"lr": 0.1, "name": "x"}},
        {"a": {"b": {"backbone": WEIGHTS}}, "mean": torch.ones(80), "step": torch.tensor(7)},
        {"state_dict": prefixed("model."), "hyper_parameters": {"width": 4}},
        prefixed("module.model."),
        {"model": prefixed("_orig_mod.module."), "losses": [0.5, 0.4]},
        prefixed("__S__."),
        {**WEIGHTS, "epoch": 3, "best": None},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_the_one_mapping_of_tensors_is_found(tmp_path, content, zipped):
    torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    found = tensors_of(read_pt(tmp_path / "m.pt").arrays)
    assert list(found) == list(WEIGHTS)
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


def test_several_are_named(tmp_path):
    content = {"generator": WEIGHTS, "ema": {"weights": prefixed("")}, "again": WEIGHTS}
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(SparsifyError, match=r"\['generator'\] and \['ema'\]\['weights'\]"):
        read_pt(tmp_path / "m.pt")
    torch.save({"learner": {"network": WEIGHTS, "head": {**WEIGHTS}}}, tmp_path / "m.pt")
    with pytest.raises(SparsifyError, match=r"torch\.load\(…\)\['learner'\]\['network'\]"):
        read_pt(tmp_path / "m.pt")


def shared(path):
    """A mapping that lies in eight levels of others a hundred times each."""
    content = WEIGHTS
    for _ in range(8):
        content = {str(n): content for n in range(100)}
    torch.save(content, path)


def nested_names(path):
    torch.save({"module." * 300_000 + name: tensor for name, tensor in WEIGHTS.items()}, path)


@pytest.mark.parametrize("write", [shared, nested_names])
def test_what_would_take_for_ever_takes_a_moment(tmp_path, write):
    write(tmp_path / "m.pt")
    found = tensors_of(read_pt(tmp_path / "m.pt").arrays)
    assert [each.shape for each in found.values()] == [each.shape for each in WEIGHTS.values()]


def deflated(path):
    """An archive of a few kilobytes that unpickles to gigabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + b"}" * 9_000_000 + b".")


def old(path):
    path.write_bytes(b"\x80\x02" + b"N0" * 5_000_000 + b".")


def two_in_one(path):
    """What torch reads is a pickle; what zipfile reads, from the end, is an archive."""
    torch.save(WEIGHTS, path)
    size = (600_000_000).to_bytes(4, "little")
    path.write_bytes(b"\x80\x02cbuiltins\nbytearray\nJ" + size + b"\x85R." + path.read_bytes())


@pytest.mark.parametrize(
    ("write", "words"),
    [(deflated, "more than 8 MiB"), (old, "more than 8 MiB"), (two_in_one, "a bytearray")],
)
def test_what_would_fill_the_memory_is_refused(tmp_path, write, words):
    write(tmp_path / "m.pt")
    with pytest.raises(SparsifyError, match=words):
        read_pt(tmp_path / "m.pt")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(x)


def script(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Net()).save(str(path))


STRANGE = {
    "holds a whole network": lambda path: torch.save(Net(), path),
    r"beside the weights \(argparse.Namespace\)": lambda path: torch.save(
        {"model": WEIGHTS, "args": argparse.Namespace(lr=1)}, path
    ),
    "is a TorchScript program": script,
    "is a pointer of Git LFS": lambda path: path.write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    ),
    "is a web page": lambda path: path.write_text("\n<!DOCTYPE html><html><body>404</body></html>"),
    "is a safetensors file": lambda path: save_file(WEIGHTS, path),
    "is compressed by gzip": lambda path: path.write_bytes(gzip.compress(b"x" * 100)),
    "is a text in JSON": lambda path: path.write_text('{"hidden": 3}'),
    "was not made by torch.save": lambda path: path.write_bytes(b"\x0a\x01\x02" * 50),
}


@pytest.mark.parametrize("said", STRANGE)
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".model"])
def test_what_is_something_else_is_told_for_what_it_is(tmp_path, said, suffix):
    path = tmp_path / f"m{suffix}"
    STRANGE[said](path)
    with pytest.raises(SparsifyError, match=said) as caught:
        read_pt(path)
    assert "weights_only" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_nothing_of_a_pickled_network_is_imported(tmp_path, monkeypatch):
    torch.save(Net(), tmp_path / "m.pt")
    monkeypatch.setattr(Net, "__setstate__", lambda *_: pytest.fail("was run"), raising=False)
    with pytest.raises(SparsifyError, match=r"test_state_dicts\.Net"):
        read_pt(tmp_path / "m.pt")
