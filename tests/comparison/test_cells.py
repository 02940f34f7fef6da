"""The grid of a comparison."""

import pytest

from sparsify.comparison.cells import (
    grid,
    label_of,
    method_of,
    target_keys,
    target_of,
    target_text,
)
from sparsify.errors import SparsifyError


def test_the_grid_has_every_run_once():
    cells = grid(["adabreg", "gmp", "adabreg"], [0.5, 0.9, 0.9], [0, 3])
    assert len(cells) == len(set(cells)) == 2 * 2 * 2
    assert {cell.name for cell in cells} >= {"adabreg-0.5-seed0", "gmp-0.9-seed3"}
    assert [cell.seed for cell in cells] == [0] * 4 + [3] * 4


def test_dense_is_trained_once_per_seed():
    cells = grid(["dense", "adabreg"], [0.5, 0.9, 0.95], [0, 1])
    assert [cell.name for cell in cells if cell.method == "dense"] == ["dense-seed0", "dense-seed1"]
    assert len(cells) == 2 * (1 + 3)


@pytest.mark.parametrize(
    ("methods", "targets", "seeds", "widths", "words"),
    [
        (["adabrag"], [0.9], [0], [None], "did you mean 'adabreg'"),
        (["adabreg"], [1.5], [0], [None], "target_sparsity"),
        (["adabreg"], [0.9], [-1], [None], "seed"),
        (["adabreg"], [0.9], [0], [0], "width"),
    ],
)
def test_a_wrong_grid_is_refused(methods, targets, seeds, widths, words):
    with pytest.raises(SparsifyError, match=words):
        grid(methods, targets, seeds, widths)


def test_a_width_is_part_of_the_name_of_a_method():
    cells = grid(["dense", "adabreg"], [0.5, 0.9], [0], [16, 32])
    assert [cell.name for cell in cells] == [
        "dense-w16-seed0",
        "adabreg-w16-0.5-seed0",
        "adabreg-w16-0.9-seed0",
        "dense-w32-seed0",
        "adabreg-w32-0.5-seed0",
        "adabreg-w32-0.9-seed0",
    ]
    assert [cell.label for cell in cells[:2]] == ["dense-w16", "adabreg-w16@0.5"]
    for cell in cells:
        assert method_of({"method": cell.series, "width": cell.width}) == cell.method
    assert method_of({"method": "dense", "width": 16}) == "dense"


def test_targets_in_multiply_adds_have_names_of_their_own():
    row = {"method": "gmp", "target_sparsity": None, "target_macs": 0.1}
    assert (label_of(row), target_text(row)) == ("gmp@macs0.1", "10% of MACs")
    assert target_keys(target_of(row)) == {"target_sparsity": None, "target_macs": 0.1}
    older = {"method": "gmp", "target_sparsity": 0.9}
    assert (label_of(older), target_text(older)) == ("gmp@0.9", "90%")
    assert target_of(row) != target_of(older | {"target_sparsity": 0.1})
    dense = {"method": "dense", "target_sparsity": None}
    assert (label_of(dense), target_text(dense)) == ("dense", "–")
