"""What is known of networks without building them is what building them shows."""

from importlib import resources

import numpy as np
import pytest
import torch

from sparsify.errors import SparsifyError
from sparsify.models import outlines, outlining
from sparsify.models.multiply_adds import weight_uses
from sparsify.models.outlines import outline_of, uses_in
from sparsify.models.registry import Architecture
from sparsify.recipe.recipe import load_recipe
from sparsify.sparsity.counting import parameter_kinds
from sparsify.sparsity.selection import Selection

SMALL = Architecture("ecapa-tdnn", {"channels": 16, "aggregation_channels": 32})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sparsify" / "networks"


def test_what_ships_is_what_the_code_finds():
    shipped = (resources.files("sparsify.models") / outlines.FILE).read_text("utf-8")
    assert shipped == outlining.content(), "python -m sparsify.models.outlining FILE writes it"


def test_networks_of_recipes_are_not_built(monkeypatch, cache):
    monkeypatch.setattr(outlines, "found", None)
    model = load_recipe("speech-mini").model
    architecture = Architecture(model.name, model.options)
    weight = outline_of(architecture).state["layer1.conv.weight"]
    assert weight == ((128, 80, 5), "float32")
    assert uses_in(architecture, 200, 80)["layer1.conv.weight"].item() == 200
    assert not cache.exists()


@pytest.mark.parametrize("selection", [Selection(), Selection(ignore=["layer1.*"])])
def test_another_network_is_found_out_once(selection, monkeypatch):
    network = SMALL.build()
    first = outline_of(SMALL, selection)
    monkeypatch.setattr(outlines, "found", None)
    assert outline_of(SMALL, selection) == first
    state = network.state_dict()
    assert list(first.state) == list(state)
    for name, (shape, dtype) in first.state.items():
        assert (torch.Size(shape), f"torch.{dtype}") == (state[name].shape, str(state[name].dtype))
    assert [*first.kinds.items()] == [*parameter_kinds(network, *selection).items()]


def test_what_is_kept_does_not_depend_on_the_type_that_this_process_prefers():
    torch.set_default_dtype(torch.float64)
    try:
        outline = outline_of(SMALL)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {entry.dtype for entry in outline.state.values()} == {"float32", "int64"}


def test_one_pattern_may_be_a_text():
    assert outline_of(SMALL, Selection(ignore="*.bn*")) == outline_of(SMALL, Selection(["*.bn*"]))


def test_counts_come_back_weight_by_weight(monkeypatch):
    """Of the pooling one part of a weight multiplies once, and one for every frame."""
    expected = weight_uses(SMALL, SMALL.build, 50, 80)
    for _ in range(2):
        uses = uses_in(SMALL, 50, 80)
        assert uses.keys() == expected.keys()
        for name, counts in expected.items():
            np.testing.assert_array_equal(np.broadcast_to(uses[name], counts.shape), counts)
        monkeypatch.setattr(outlines, "found", None)
    assert {*uses["pool.linear1.weight"].ravel().tolist()} == {1, 50}


def test_a_pattern_that_fits_nothing_is_told_every_time():
    for _ in range(2):
        with pytest.raises(SparsifyError, match="'nothing'"):
            outline_of(SMALL, Selection(["nothing"]))
