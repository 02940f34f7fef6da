"""Networks are checked before anything that takes long."""

import pytest

from sparsify.errors import SparsifyError
from sparsify.recipe.recipe import Recipe
from sparsify.training.trainer import train


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"ignore": ["layer7.*"]}, "no parameter"),
        (
            {"name": "torch.nn:Linear", "options": {"in_features": 80, "out_features": 8}},
            r"must map features \(B, T, F\)",
        ),
        ({"options": {"chanels": 8}}, "chanels"),
    ],
)
def test_an_unusable_network_is_refused_before_the_data_is_read(model, words, tmp_path):
    recipe = Recipe.model_validate({"model": model, "data": {"path": str(tmp_path / "nowhere")}})
    with pytest.raises(SparsifyError, match=words):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
