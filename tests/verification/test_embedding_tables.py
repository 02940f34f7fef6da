"""Tables of embeddings, read back by NumPy, kaldiio and JSON."""

import json
import zipfile

import kaldiio
import numpy as np
import pytest

from sparsify.artifact import room
from sparsify.errors import SparsifyError
from sparsify.verification.embedding_tables import (
    EmbeddingTable,
    check_table,
    read_table,
    write_table,
)


@pytest.fixture
def table():
    embeddings = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    return EmbeddingTable(("a/1.wav", "a/2.wav", "é.wav"), ("a", "a", ""), embeddings, "digest")


def test_npz_holds_keys_and_matrix(table, tmp_path):
    assert write_table(table, tmp_path / "x.npz") == [tmp_path / "x.npz"]
    with np.load(tmp_path / "x.npz") as content:
        assert content["keys"].tolist() == list(table.keys)
        assert content["speakers"].tolist() == ["a", "a", ""]
        np.testing.assert_array_equal(content["embeddings"], table.embeddings)
        assert content["embeddings"].dtype == np.float32
    again = read_table(tmp_path / "x.npz")
    assert (again.keys, again.speakers, again.model) == (table.keys, ("a", "a", ""), "digest")
    np.testing.assert_array_equal(again.embeddings, table.embeddings)


def test_kaldiio_reads_ark_and_scp(table, tmp_path):
    files = write_table(table, tmp_path / "x.ark")
    assert files == [tmp_path / "x.ark", tmp_path / "x.scp"]
    in_order = list(kaldiio.load_ark(str(tmp_path / "x.ark")))
    by_place = kaldiio.load_scp(str(tmp_path / "x.scp"))
    assert [key for key, _ in in_order] == list(table.keys) == list(by_place)
    for (key, vector), row in zip(in_order, table.embeddings, strict=True):
        assert vector.dtype == np.float32
        np.testing.assert_array_equal(vector, row)
        np.testing.assert_array_equal(by_place[key], row)


def test_kaldiio_writes_the_same_bytes(table, tmp_path):
    write_table(table, tmp_path / "x.ark")
    vectors = dict(zip(table.keys, table.embeddings, strict=True))
    kaldiio.save_ark(str(tmp_path / "y.ark"), vectors, scp=str(tmp_path / "y.scp"))
    assert (tmp_path / "x.ark").read_bytes() == (tmp_path / "y.ark").read_bytes()
    theirs = (tmp_path / "y.scp").read_text().replace("y.ark", "x.ark")
    assert (tmp_path / "x.scp").read_text() == theirs


def test_json_lines(table, tmp_path):
    write_table(table, tmp_path / "x.jsonl")
    records = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [record["key"] for record in records] == list(table.keys)
    found = np.array([record["embedding"] for record in records], dtype=np.float32)
    np.testing.assert_array_equal(found, table.embeddings)


def test_kaldi_keys_have_no_spaces(table, tmp_path):
    spaced = EmbeddingTable(("a", "b c", "d"), table.speakers, table.embeddings, "")
    with pytest.raises(SparsifyError, match="the key 'b c'"):
        write_table(spaced, tmp_path / "x.ark")
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_is_read_is_replaced(table, tmp_path):
    script, ark = tmp_path / "wav.scp", tmp_path / "wav.ark"
    script.write_text("a a.wav\n")
    with pytest.raises(SparsifyError, match=r"wav\.scp': it is what is read"):
        check_table(ark, [script])
    with pytest.raises(SparsifyError, match=r"wav\.scp', which goes with it, .* no index"):
        check_table(ark)
    assert script.read_text() == "a a.wav\n"
    script.unlink()
    for _ in range(2):  # an index of ours is replaced with its table
        assert write_table(table, ark) == [ark, script]


def test_kaldi_keys_may_be_no_text(table, tmp_path):
    keys = ("\udcff.wav", *table.keys[1:])
    write_table(EmbeddingTable(keys, table.speakers, table.embeddings, ""), tmp_path / "x.ark")
    assert (tmp_path / "x.ark").read_bytes().startswith(b"\xff.wav \0BFV")
    assert (tmp_path / "x.scp").read_bytes().startswith(b"\xff.wav ")


def test_other_names_and_folders_are_refused(tmp_path):
    with pytest.raises(SparsifyError, match=r"must end in \.npz, \.ark or \.jsonl"):
        check_table(tmp_path / "x.csv")
    with pytest.raises(SparsifyError, match="create the folder"):
        check_table(tmp_path / "absent" / "x.npz")


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(SparsifyError, match="no table of embeddings"):
        read_table(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", keys=np.array([{}]), embeddings=np.zeros(1), model="")
    for name in ("text", "other", "pickled"):
        with pytest.raises(SparsifyError, match="is not a table of embeddings"):
            read_table(tmp_path / f"{name}.npz")


def npz(path, **changes):
    two = np.array(["a", "b"])
    content = {"keys": two, "speakers": two, "embeddings": np.zeros((2, 3), np.float32)}
    np.savez(path, **(content | {"model": np.array("digest")} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": np.array(["a"])}, r"keys \(1,\) and speakers \(2,\)"),
        ({"speakers": np.array(["a"])}, r"keys \(2,\) and speakers \(1,\)"),
        ({"keys": np.array([["a"], ["b"]])}, r"keys \(2, 1\)"),
        ({"embeddings": np.zeros((2, 0), np.float32)}, r"embeddings \(2, 0\)"),
        ({"embeddings": np.zeros((2, 3))}, "float64 and not float32"),
        ({"keys": np.arange(2)}, "no texts"),
        ({"model": np.array(["a", "b"])}, "not a table of embeddings"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(tmp_path, changes, message):
    npz(tmp_path / "odd.npz", **changes)
    with pytest.raises(SparsifyError, match=message):
        read_table(tmp_path / "odd.npz")


def test_texts_without_a_character_take_no_memory(tmp_path):
    """A header says how many there are, and no content contradicts it."""
    npz(tmp_path / "odd.npz")
    header = {"descr": "<U0", "fortran_order": False, "shape": (10**12,)}
    with (
        zipfile.ZipFile(tmp_path / "odd.npz", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
        archive.open("keys.npy", "w") as entry,
    ):
        np.lib.format.write_array_header_1_0(entry, header)
    with pytest.raises(SparsifyError, match="is not a table"):
        read_table(tmp_path / "odd.npz")


def test_a_small_file_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_FREE", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", embeddings=np.zeros(1 << 20))
    with pytest.raises(SparsifyError, match="absurd for a file of that size"):
        read_table(tmp_path / "bomb.npz")
