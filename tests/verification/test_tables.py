"""Tables of embeddings, read back by NumPy, kaldiio and JSON."""

import json

import kaldiio
import numpy as np
import pytest

from sparsify.errors import SparsifyError
from sparsify.verification.tables import EmbeddingTable, check_table, read_table, write_table


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


def test_other_names_and_folders_are_refused(tmp_path):
    with pytest.raises(SparsifyError, match=r"must end in \.npz, \.ark, \.jsonl"):
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
    one, two = np.array(["a"]), np.array(["a", "b"])
    for keys, speakers in ((one, two), (two, one)):
        content = {"keys": keys, "speakers": speakers, "embeddings": np.zeros((2, 3)), "model": ""}
        np.savez(tmp_path / "short.npz", **content)
        with pytest.raises(SparsifyError, match=f"{len(keys)} keys and {len(speakers)} speakers"):
            read_table(tmp_path / "short.npz")
