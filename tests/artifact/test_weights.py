"""Model files of anybody: what is read, what is refused, and how much memory it takes."""

import io
import json
import os
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from sparsify.artifact import plain, room, weights
from sparsify.artifact.loading import load_artifact
from sparsify.artifact.weights import read_weights
from sparsify.errors import SparsifyError
from sparsify.tensors import tensors_of


def test_files_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    for name in ("m.onnx", "m.safetensors"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 3 << 30)
    with pytest.raises(SparsifyError, match="at most 2 GiB"):
        read_weights(tmp_path / "m.onnx")
    monkeypatch.setattr(weights, "_memory", lambda: 1 << 30)
    with pytest.raises(SparsifyError, match="larger than the memory"):
        read_weights(tmp_path / "m.safetensors")


HUGE = (10**6, 10**6)
INDEX = torch.tensor([[0], [0]])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(1).expand(HUGE),
        lambda: torch.sparse_coo_tensor(INDEX, torch.ones(1), HUGE, check_invariants=True),
        lambda: torch.sparse_coo_tensor(INDEX, torch.ones(1), HUGE, check_invariants=True).t(),
        lambda: torch.sparse_csr_tensor(
            torch.zeros(2, dtype=torch.int64), INDEX[0, :0], torch.ones(0), (1, 10**12)
        ),
        lambda: torch.ones(1, dtype=torch.bfloat16).expand(HUGE),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_absurd_tensors_of_state_dicts_are_refused(tmp_path, make, zipped):
    content = {"v": torch.ones(3), "w": make()}
    torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(SparsifyError, match="'w' would take 4000000000000 bytes"):
        read_weights(tmp_path / "m.pt")


def test_a_compressed_archive_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_FREE", 1 << 20)
    monkeypatch.setattr(room, "_TIMES", 8)
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(1 << 20)}, buffer)
    with (
        zipfile.ZipFile(buffer) as archive,
        zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(SparsifyError, match="absurd for a file of that size"):
        read_weights(tmp_path / "m.pt")


def test_a_state_dict_holds_no_more_than_its_file(tmp_path):
    """The old format takes the sizes of storages at their word, and shows what memory held."""
    torch.save({"w": torch.zeros(1000)}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "m.pt").read_bytes()
    # BININT2 1000: the numbers of elements of the storage and of the tensor; no storage follows.
    assert content.count(b"M\xe8\x03") == 2
    grown = content.replace(b"M\xe8\x03", b"J\x00\x00\x00\x02")
    keys = grown.rindex(b"\x80\x02]q")
    (tmp_path / "m.pt").write_bytes(grown[:keys] + b"\x80\x02].")
    with pytest.raises(SparsifyError, match="larger than the file"):
        read_weights(tmp_path / "m.pt")


@pytest.mark.filterwarnings("ignore")
def test_state_dicts_with_tensors_of_other_kinds(tmp_path):
    weight = torch.tensor([[0.5, 0.0], [-1.0, 2.0]])
    kept = {
        "sparse": weight.to_sparse(),
        "csr": weight.to_sparse_csr(),
        "quantized": torch.quantize_per_tensor(weight, 0.5, 3, torch.qint8),
        "expanded": weight[:, :1].expand(2, 2),
        "complex": weight.to(torch.complex64).conj(),
        "negative": torch.view_as_complex(weight).conj().imag,
        "unsigned": torch.tensor([0, 65535], dtype=torch.uint16),
        "scales": torch.tensor([1.0, 2.0]).to(torch.float8_e8m0fnu),
        "shared": weight,
        "again": weight,
    }
    torch.save(kept, tmp_path / "m.pt")
    tensors = tensors_of(read_weights(tmp_path / "m.pt").arrays)
    for name in ("sparse", "csr", "quantized", "shared", "again"):
        assert torch.equal(tensors[name], weight)
    assert tensors["expanded"].tolist() == [[0.5, 0.5], [-1.0, -1.0]]
    assert not tensors["complex"].is_conj()
    assert torch.equal(tensors["negative"], torch.tensor([0.0, -2.0]))
    assert tensors["unsigned"].tolist() == [0, 65535]
    assert tensors["scales"].tolist() == [1.0, 2.0]
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    for name, tensor in (("nested", nested), ("bits", torch.zeros(4).view(torch.bits8))):
        torch.save({name: tensor}, tmp_path / "odd.pt")
        with pytest.raises(SparsifyError, match=f"tensor '{name}'"):
            read_weights(tmp_path / "odd.pt")


def packed(shape, bits=1, nonzeros=1):
    return {
        "w.compressed": torch.ones(nonzeros),
        "w.bitmask": torch.full((bits,), 1, dtype=torch.uint8),
        "w.shape": shape,
    }


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (packed(torch.tensor([10**6, 10**6])), "does not fit shape"),
        (packed(torch.tensor([2**40, 2**40])), "cannot have shape"),
        (packed(torch.tensor([0, 2**62, 2**62]), 0, 0), "cannot have shape"),
        (packed(torch.ones(10**6, dtype=torch.int64)), "1000000 of int64"),
        (packed(torch.tensor([8.0])), "shape of a few integers"),
        (packed(torch.tensor([float("nan")])), "shape of a few integers"),
        (packed(torch.tensor([8 + 0j])), "shape of a few integers"),
        (packed(torch.tensor([True])), "shape of a few integers"),
        (packed(torch.tensor([8]), nonzeros=2), "marks 1 nonzeros but 2"),
        (packed(torch.tensor([8])) | {"w": torch.ones(8)}, "'w' is in it twice"),
    ],
)
def test_bitmasks_that_contradict_themselves_are_refused(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(SparsifyError, match=message):
        read_weights(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [("F4", 4, "type F4"), ("F6_E2M3", 3, "type F6"), ("X9", 4, "unknown variant")],
)
def test_types_that_cannot_be_counted_are_refused(tmp_path, kind, size, message):
    header = {"w": {"dtype": kind, "shape": [8 * size // 6 if "6" in kind else 8]}}
    header["w"]["data_offsets"] = [0, size]
    text = json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    with pytest.raises(SparsifyError, match=message):
        load_artifact(tmp_path / "m.safetensors")


class _Filled:
    """Unpickles to as many bytes as a number says."""

    def __reduce__(self):
        return bytearray, (10**10,)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_pickle_does_not_fill_the_memory(tmp_path, options):
    torch.save({"a": _Filled()}, tmp_path / "model.pt", **options)
    with pytest.raises(SparsifyError, match="bytearray"):
        read_weights(tmp_path / "model.pt")


def test_a_tensor_beyond_its_storage_is_refused():
    tensor = torch.ones(10, 3)
    assert plain.plain("w", tensor) is tensor
    tensor.untyped_storage().resize_(100)
    with pytest.raises(SparsifyError, match="tensor 'w' reaches beyond the bytes"):
        plain.plain("w", tensor)
