"""Files that tell whether they are what was written."""

import contextlib
import hashlib
import io
import os
import random
import zipfile

import pytest
import torch

from sparsify.training import checkpoints
from sparsify.training.checkpoints import DamagedError

from ..fuzz.mutations import mutated

CONTENT = {"step": 3, "weights": {"a": torch.arange(6.0)}, "text": "λ", "none": None}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(checkpoints.packed(CONTENT))
    return path


def test_content_comes_back_also_for_torch(file):
    for content in (checkpoints.load(file), torch.load(file, weights_only=True)):
        assert torch.equal(content.pop("weights")["a"], CONTENT["weights"]["a"])
        assert content == {"step": 3, "text": "λ", "none": None}
    checkpoints.check(file)


def test_flipped_bits_are_noticed_before_anything_is_unpickled(file, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    whole = file.read_bytes()
    for place in (*range(0, len(whole), 5), *range(len(whole) - 80, len(whole))):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        with pytest.raises(DamagedError, match="damaged"):
            checkpoints.load(file)


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b + b"\n", lambda b: b"", bytes.upper]
)
def test_other_damage_is_noticed(file, change):
    file.write_bytes(change(file.read_bytes()))
    for read in (checkpoints.load, checkpoints.check):
        with pytest.raises(DamagedError, match="damaged"):
            read(file)


def sealed(path, data):
    path.write_bytes(data + checkpoints._seal(hashlib.sha256(data)))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_somebody_has_made_up_and_sealed_is_damaged_too(file, request):
    """The pickle machine may raise anything."""
    rng = random.Random(0)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in members if name.endswith("data.pkl"))
    for _ in range(request.config.getoption("--fuzz")):
        made_up = io.BytesIO()
        with zipfile.ZipFile(made_up, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, mutated(data, rng) if name == pickled else data)
        sealed(file, made_up.getvalue())
        with contextlib.suppress(DamagedError):
            assert isinstance(checkpoints.load(file), dict)


def test_a_list_is_no_checkpoint(file):
    torch.save([1, 2], file)
    sealed(file, file.read_bytes())
    with pytest.raises(DamagedError):
        checkpoints.load(file)


def test_a_file_without_a_seal_is_refused(file):
    torch.save(CONTENT, file)
    with pytest.raises(DamagedError, match=r"is damaged \(or of an early sparsify"):
        checkpoints.load(file)


def test_an_absurdly_large_file_is_refused_at_once(file, monkeypatch):
    seal = file.read_bytes()[-checkpoints._SEAL_BYTES :]
    os.truncate(file, 1 << 40)  # a hole
    with file.open("ab") as end:
        end.write(seal)
    monkeypatch.setattr(checkpoints.hashlib, "sha256", lambda *_: pytest.fail("all of it was read"))
    with pytest.raises(DamagedError, match="damaged"):
        checkpoints.load(file)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    for read in (checkpoints.load, checkpoints.check):
        with pytest.raises(DamagedError, match=r"none\.pt' is missing"):
            read(tmp_path / "none.pt")
