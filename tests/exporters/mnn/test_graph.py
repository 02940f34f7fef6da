import struct

import numpy as np
import pytest

from sparsify.artifact import room
from sparsify.errors import SparsifyError
from sparsify.exporters.mnn import graph
from sparsify.exporters.mnn.graph import fill_zeros, read_graph
from sparsify.exporters.mnn.tables import Tables


def integers(*shape):
    """What the golden files hold, see their README."""
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 11 - 5
    return np.where(np.abs(values) == 5, values, 0)


def weights(path):
    return [operator.weight for operator in read_graph(path).operators]


@pytest.fixture(params=["mnn_sparse.mnn", "mnn_dense.mnn"])
def file(request, own_golden):
    return own_golden / request.param


def test_weights_are_read_as_they_were_converted(file):
    graph = read_graph(file)
    first, *groups, last = weights(file)
    assert graph.input_shapes == ((1, -1, 8),)
    assert graph.maker == "other"
    assert {operator.type for operator in graph.operators} == {"Convolution"}
    np.testing.assert_array_equal(first.squeeze(-1), integers(32, 8, 3))
    np.testing.assert_array_equal(np.concatenate(groups).reshape(32, 16), integers(32, 16))
    np.testing.assert_array_equal(last.reshape(4, 32), integers(4, 32))


def test_biases_and_scales_are_read(file):
    others = read_graph(file).others
    assert sorted(each.size for each in others.values()) == [4, 16, 16, 32, 32, 32]


def test_zeros_are_filled_and_nothing_else_changes(file, tmp_path):
    output = tmp_path / "filled.mnn"
    fill_zeros(file, output, lambda weight: np.where(weight == 0, 7, weight))
    for before, after in zip(weights(file), weights(output), strict=True):
        assert after.all()
        assert np.array_equal(after[before != 0], before[before != 0])
    before, after = read_graph(file), read_graph(output)
    assert before.others.keys() == after.others.keys()
    assert all(np.array_equal(before.others[name], after.others[name]) for name in before.others)


@pytest.mark.parametrize("length", [0, 3, 100, 5000])
def test_what_is_cut_off_is_damaged(own_golden, tmp_path, length):
    path = tmp_path / "cut.mnn"
    path.write_bytes((own_golden / "mnn_sparse.mnn").read_bytes()[:length])
    with pytest.raises(SparsifyError, match=r"cut\.mnn' is damaged or not a \.mnn file"):
        read_graph(path)


@pytest.fixture
def claim(monkeypatch):
    """Lets the first layer of the sparse file claim another number of weights."""

    def claim(claimed):
        found = Tables.integer
        monkeypatch.setattr(
            Tables,
            "integer",
            lambda *place: claimed if (value := found(*place)) == 768 else value,
        )

    return claim


def test_counts_that_fit_no_shape_are_damage(own_golden, claim):
    claim(769)
    with pytest.raises(SparsifyError, match="769 weights have no shape"):
        read_graph(own_golden / "mnn_sparse.mnn")


def test_absurd_counts_are_refused_before_memory_is_taken(own_golden, claim, monkeypatch):
    monkeypatch.setattr(room, "_FREE", 1 << 20)
    claim(96 << 20)
    with pytest.raises(SparsifyError, match="absurd for a file of that size"):
        read_graph(own_golden / "mnn_sparse.mnn")


def repeated(tables, operators):
    first = operators + 4 + tables._unsigned(operators + 4)
    struct.pack_into("<I", tables.data, operators + 8, first - (operators + 8))


def long_named(tables, operators):
    first = operators + 4 + tables._unsigned(operators + 4)
    struct.pack_into("<I", tables.data, tables.child(first, graph._NAME), 2000)


@pytest.mark.parametrize(
    ("spoil", "words"), [(repeated, "listed twice"), (long_named, "a name of 2000 bytes")]
)
def test_a_small_file_cannot_be_a_large_one(own_golden, tmp_path, spoil, words):
    tables = Tables(bytearray((own_golden / "mnn_sparse.mnn").read_bytes()))
    spoil(tables, tables.child(tables.root, graph._NET_OPERATORS))
    (tmp_path / "m.mnn").write_bytes(tables.data)
    with pytest.raises(SparsifyError, match=words):
        read_graph(tmp_path / "m.mnn")
