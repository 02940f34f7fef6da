"""The grid of a comparison."""

import pytest

from sparsify.comparison.cells import grid
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
    ("methods", "targets", "seeds", "words"),
    [
        (["adabrag"], [0.9], [0], "did you mean 'adabreg'"),
        (["adabreg"], [1.5], [0], "target_sparsity"),
        (["adabreg"], [0.9], [-1], "seed"),
    ],
)
def test_a_wrong_grid_is_refused(methods, targets, seeds, words):
    with pytest.raises(SparsifyError, match=words):
        grid(methods, targets, seeds)
